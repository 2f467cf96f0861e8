// The theme makes a landmark of every copy button, so that a page of twenty reads out twenty navigations; and it lets
// the keyboard into a block of code only where there is a mouse too.
const adapt = () => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) nav.setAttribute("role", "none");
  for (const code of document.querySelectorAll("pre > code:not([tabindex])")) code.setAttribute("tabindex", "0");
};
new MutationObserver(adapt).observe(document.body, { attributeFilter: ["tabindex"], childList: true, subtree: true });
adapt();

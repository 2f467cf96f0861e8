// The theme makes a landmark of every copy button, so that a page of twenty reads out twenty navigations; and it lets
// the keyboard into a block of code only where there is a mouse too, and into a wide table not at all.
const SCROLLS = "pre > code:not([tabindex]), .md-typeset__scrollwrap:not([tabindex])";
const adapt = () => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) nav.setAttribute("role", "none");
  for (const part of document.querySelectorAll(SCROLLS)) part.setAttribute("tabindex", "0");
};
new MutationObserver(adapt).observe(document.body, { attributeFilter: ["tabindex"], childList: true, subtree: true });
adapt();

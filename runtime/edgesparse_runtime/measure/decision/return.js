const form = document.querySelector("form.return"), page = document.documentElement.lang;
const read = name => Math.max(0, Number(form.elements[name].value) || 0);
const show = (id, value) => {
  const cell = document.getElementById(id);
  if (cell) cell.textContent = Number.isFinite(value) ? Math.round(value).toLocaleString(page) : "–";
};
const update = () => {
  const cost = {};
  for (const name of ["dense", "use"]) {
    const perMachine = Number(form.dataset[name]);
    if (!(name in form.dataset)) continue;
    const machines = perMachine ? Math.ceil(read("streams") / perMachine) : NaN;
    cost[name] = machines * read("price");
    show("machines-" + name, machines);
    show("cost-" + name, cost[name]);
  }
  show("saved", cost.dense - cost.use - read("work"));
};
form.addEventListener("input", update);
form.addEventListener("submit", event => event.preventDefault());

// The item browser: without this script every item is shown and can be opened; with it, they can be filtered.
(() => {
  "use strict";
  const PAGE = 40;
  const form = document.getElementById("filters");
  if (!form) return;
  const [contains, task, differ, count, more] =
    ["contains", "task", "differ", "count", "more"].map((id) => document.getElementById(id));
  const items = [...document.querySelectorAll("#items > details")];
  const texts = new Map(); // read on the first search only: opening the page should not wait for it
  const text = (item) => {
    if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
    return texts.get(item);
  };
  let limit = PAGE;

  function show() {
    const words = contains.value.toLowerCase().trim();
    let found = 0;
    for (const item of items) {
      const fits = (!task.value || item.dataset.task === task.value)
        && (!differ.checked || "differ" in item.dataset)
        && (!words || text(item).includes(words));
      if (fits) found += 1;
      item.hidden = !fits || found > limit;
    }
    count.textContent = `${found.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`;
    more.hidden = found <= limit;
    more.textContent = `Show ${Math.min(PAGE, found - limit)} more`;
  }

  form.addEventListener("input", () => { limit = PAGE; show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { limit += PAGE; show(); });
  form.hidden = false;
  show();
})();

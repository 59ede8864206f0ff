// The item browser: unpacks the items after the page is painted, filters them, and draws one when it is opened.
(() => {
  "use strict";
  const PAGE = 40;
  const SHORT = 110;
  const id = (name) => document.getElementById(name);
  const form = id("filters");
  if (!form) return;
  const [contains, task, domain, differ, count, more, list] =
    ["contains", "task", "domain", "differ", "count", "more", "items"].map(id);

  // Text is only ever set as text: what a model wrote stays what it wrote.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== ""));
    return made;
  }
  const words = (name) => name.replaceAll("_", " ");
  const listing = (names) => names.length > 1
    ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names.join("");

  function read([task, domain, id, summary, asked, choices, gold, differ, packed]) {
    const answers = packed.flatMap((one, model) => one
      ? [{ model, right: one[0], chosen: one[1], scores: one[2], answer: one[3], facts: one[4], longer: one[5] }]
      : []);
    return { task, domain, id, summary: summary || asked, asked, choices, gold, differ, answers };
  }

  function choiceList(item) {
    return element("ul", {}, ...item.choices.map((choice, i) =>
      element("li", {}, choice, i === item.gold ? element("span", { class: "gold" }, " right answer") : "")));
  }

  function choiceTable(item, models) {
    const heads = item.answers.map((one) => element("th", { scope: "col" }, models[one.model]));
    const rows = item.choices.map((choice, i) => {
      const cells = item.answers.map((one) => {
        const score = one.scores[i] ?? "";
        if (one.chosen !== i) return element("td", {}, score);
        const verdict = i === item.gold ? "right" : item.gold >= 0 ? "wrong" : "chosen";
        return element("td", { class: verdict }, element("b", {}, "chosen"), score);
      });
      const mark = i === item.gold ? element("span", { class: "gold" }, " right answer") : "";
      return element("tr", {}, element("th", { scope: "row" }, choice, mark), ...cells);
    });
    const scored = item.answers.some((one) => one.scores.length);
    const long = item.choices.some((choice) => choice.length > 120);
    const table = element("table", { class: long ? "choices long" : "choices" },
      scored ? element("caption", {}, "Numbers: log-likelihood of the choice") : "",
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Choice"), ...heads)),
      element("tbody", {}, ...rows));
    return element("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": "Choices by model" }, table);
  }

  function card(one, models) {
    const verdict = { 0: "wrong", 1: "right" }[one.right];
    return element("section", { class: "card" },
      element("h3", {}, models[one.model]),
      verdict ? element("p", { class: verdict }, verdict) : "",
      one.answer === null ? "" : element("p", { class: "answer" }, one.answer.trim() ? one.answer : "(an empty answer)"),
      one.facts ? element("p", { class: "facts" }, one.facts) : "");
  }

  function body(item, models) {
    const longer = item.answers.filter((one) => one.longer).map((one) => models[one.model]);
    const cards = item.answers.filter((one) => !item.choices.length || one.answer !== null || !one.scores.length);
    const chose = item.answers.some((one) => one.chosen >= 0 || one.scores.length);
    return [
      element("p", { class: "id" }, `${item.id}${item.domain ? ` · ${words(item.domain)}` : ""}`),
      item.asked ? element("p", { class: "asked" }, item.asked) : "",
      longer.length ? element("p", { class: "id" }, `Asked with examples or a longer prompt: ${listing(longer)}`) : "",
      item.choices.length ? (chose ? choiceTable(item, models) : choiceList(item)) : "",
      cards.length ? element("div", { class: "cards" }, ...cards.map((one) => card(one, models))) : "",
    ].filter((part) => part !== "");
  }

  function draw(item, models) {
    const plain = item.summary.replaceAll(/\s+/g, " ");
    const short = plain.length > SHORT ? `${plain.slice(0, SHORT - 1)}…` : plain;
    const judged = item.answers.filter((one) => one.right >= 0);
    const score = judged.length
      ? element("span", { class: "score" }, `${judged.filter((one) => one.right).length} of ${judged.length} right`) : "";
    const details = element("details", { class: "item" }, element("summary", {},
      element("span", { class: "task" }, words(item.task)), element("span", { class: "short" }, short), score));
    details.addEventListener("toggle", () => details.append(...body(item, models)), { once: true });
    return details;
  }

  function searched(item) {
    const said = item.answers.map((one) => `${one.answer ?? ""}\n${one.facts}`);
    return [item.id, item.asked, ...item.choices, ...said].join("\n").toLowerCase();
  }

  function begin({ models, items }) {
    const all = items.map(read);
    const drawn = new Map(); // an item that was opened stays open through another search
    const texts = new Map(); // read on the first search only
    let limit = PAGE;

    function show() {
      const wanted = contains.value.toLowerCase().trim();
      const found = all.filter((item) => (!task.value || item.task === task.value)
        && (!domain.value || item.domain === domain.value)
        && (!differ.checked || item.differ)
        && (!wanted || (texts.get(item) ?? texts.set(item, searched(item)).get(item)).includes(wanted)));
      list.replaceChildren(...found.slice(0, limit).map((item) =>
        drawn.get(item) ?? drawn.set(item, draw(item, models)).get(item)));
      count.textContent = `${found.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} items`;
      more.hidden = found.length <= limit;
      more.textContent = `Show ${Math.min(PAGE, found.length - limit)} more`;
    }

    form.addEventListener("input", () => { limit = PAGE; show(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => {
      const next = limit;
      limit += PAGE;
      show();
      list.children[next].firstElementChild.focus(); // the reader goes on where the list went on
    });
    show();
    form.hidden = false;
    id("unread").remove();
    performance.mark("items");
  }

  async function unpack() {
    if (!("DecompressionStream" in window)) return; // the page says where the items are
    const packed = id("packed").textContent;
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(packed) // not in every browser yet, and faster
      : Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    begin(await new Response(stream).json());
  }

  requestAnimationFrame(() => setTimeout(unpack));
})();

// Filters show at once what they choose, and the page says when newer ratings are there.
const filters = document.querySelector("#filters");
filters.addEventListener("change", () => filters.requestSubmit());
filters.querySelector("button").hidden = true;
filters.addEventListener("formdata", (event) => {
  // Addresses that people share stay short.
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

const age = document.querySelector("#age");
const PATIENCE = 5000; // ms between looks
const look = async () => {
  if (document.visibilityState !== "visible") return;
  try {
    const { rated } = await (await fetch("/leaderboard/now")).json();
    if (rated > Number(age.dataset.number)) {
      const again = document.createElement("a");
      again.href = location.href;
      again.textContent = "Newer ratings are there: show them";
      age.replaceChildren(again);
      clearInterval(timer);
    }
  } catch {
    // The server is away; the next look may find it again.
  }
};
const timer = age ? setInterval(look, PATIENCE) : undefined;

// What every page has: the menu of narrow windows.
const menu = document.querySelector(".menu");
menu.addEventListener("click", () => {
  const open = document.querySelector("#nav").classList.toggle("open");
  menu.setAttribute("aria-expanded", String(open));
});

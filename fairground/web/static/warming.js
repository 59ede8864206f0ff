// The page that waits for the models: it loads itself anew once that changes anything.
const before = Number(document.querySelector("#warming").dataset.ready);
const timer = setInterval(async () => {
  const now = await fetch("/warming").then((answer) => answer.json(), () => null);
  if (now && now.ready !== before) {
    clearInterval(timer);
    location.reload();
  }
}, 1000);

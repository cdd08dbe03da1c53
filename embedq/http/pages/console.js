"use strict";
// Renews the live parts of a page of the console from the page itself. A part in which somebody types or has opened something stays as it is.
(() => {
  const every = 5000;
  const main = document.querySelector("main[data-renew]");
  const offline = document.getElementById("offline");

  function isInUse(part) {
    return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
  }

  async function renew() {
    if (document.hidden) return;
    try {
      const answer = await fetch(main.dataset.renew, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(`the service answers ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const now = fresh.getElementById(part.id);
        if (now !== null && !isInUse(part) && part.innerHTML !== now.innerHTML) part.innerHTML = now.innerHTML;
      }
      offline.hidden = true;
      document.body.dataset.renewed = String(Number(document.body.dataset.renewed || 0) + 1);
    } catch (away) {
      offline.textContent = `What is shown is from a while ago: ${away.message}`;
      offline.hidden = false;
    }
  }

  async function loop() {
    await renew();
    setTimeout(loop, every);
  }
  if (main !== null) setTimeout(loop, every);
})();

"use strict";
// Renews the parts of the page that show; forms are never touched, so nobody loses what they are typing.
(() => {
  const every = 2000;
  const shown = new WeakMap();
  const offline = document.getElementById("offline");

  async function renew() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/cockpit/live", { headers: { Accept: "application/json" }, cache: "no-store" });
      if (answer.status === 401) return location.reload();
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.detail);
      for (const part of document.querySelectorAll("[data-part]")) {
        const fresh = told.parts[part.dataset.part];
        if (fresh !== undefined && shown.get(part) !== fresh) {
          part.innerHTML = fresh;
          shown.set(part, fresh);
        }
      }
      offline.hidden = true;
      document.body.dataset.renewed = String(Number(document.body.dataset.renewed || 0) + 1);
    } catch (away) {
      offline.textContent = `The numbers are from a while ago: ${away.message}`;
      offline.hidden = false;
    }
  }

  async function loop() {
    await renew();
    setTimeout(loop, every);
  }
  loop();
})();

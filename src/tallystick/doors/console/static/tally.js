// Keeps a page up to date while something on it is running: <main data-live="milliseconds"> is asked for
// again and its content exchanged, with scroll and focus kept. A page that is not live asks for nothing.
"use strict";
(() => {
  // The links that MLflow's client prints: its pages are at the root of an MLflow server, here below /mlflow/.
  function followMlflow() {
    if (location.pathname === "/" && location.hash.startsWith("#/")) location.replace(`/mlflow/${location.hash}`);
  }
  followMlflow();
  addEventListener("hashchange", followMlflow); // a link opened where the console is open loads no page anew

  const SLOWEST_MS = 10000;
  let failures = 0;

  const main = () => document.getElementById("main");
  const boxes = (root) => [...root.querySelectorAll(".scroll, pre")];

  // The focused element, as something that can be found again in new content.
  function remember(root) {
    const at = document.activeElement;
    if (!at || at === root || !root.contains(at)) return null;
    if (at.id) return { id: at.id };
    const alike = [...root.querySelectorAll(at.tagName)].filter((e) => e.getAttribute("href") === at.getAttribute("href"));
    return { tag: at.tagName, href: at.getAttribute("href"), nth: alike.indexOf(at) };
  }

  function refocus(root, was) {
    if (!was) return;
    const alike = was.id ? [document.getElementById(was.id)]
      : [...root.querySelectorAll(was.tag)].filter((e) => e.getAttribute("href") === was.href);
    const found = alike[was.nth ?? 0] ?? alike[0];
    if (found) found.focus({ preventScroll: true });
  }

  function exchange(old, fresh) {
    const focus = remember(old);
    const scrolls = boxes(old).map((box) => [box.scrollLeft, box.scrollTop]);
    const [x, y] = [window.scrollX, window.scrollY];
    old.replaceChildren(...fresh.childNodes);
    boxes(old).forEach((box, i) => {
      if (scrolls[i]) [box.scrollLeft, box.scrollTop] = scrolls[i];
    });
    window.scrollTo(x, y);
    refocus(old, focus);
    if (fresh.dataset.live) old.dataset.live = fresh.dataset.live;
    else delete old.dataset.live;
  }

  function say(words, lost) {
    const live = document.getElementById("live");
    if (!live) return;
    live.lastElementChild.textContent = words;
    live.classList.toggle("lost", lost);
  }

  async function refresh() {
    const selected = window.getSelection();
    const busy = document.hidden || (selected && !selected.isCollapsed);
    if (!busy) {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("main");
        if (fresh) exchange(main(), fresh);
        document.title = page.title;
        failures = 0;
      } catch {
        failures += 1;
        say("no answer from the hub, trying again", true);
      }
    }
    later();
  }

  function later() {
    const every = Number(main()?.dataset.live ?? 0);
    if (every) setTimeout(refresh, Math.min(SLOWEST_MS, every * 2 ** failures));
  }

  later();
})();

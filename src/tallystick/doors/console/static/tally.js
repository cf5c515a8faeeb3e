// Keeps a page up to date while something on it is running: of a page with <main data-live="milliseconds"> the
// content of <main> is asked for again, and only what differs is changed, so that focus, scroll and what is unfolded
// stay. A log with data-follow="address" is read on as it is written. A page that is not live asks for nothing.
"use strict";
(() => {
  // The links that MLflow's client prints: its pages are at the root of an MLflow server, here below /mlflow/.
  function followMlflow() {
    if (location.pathname === "/" && location.hash.startsWith("#/")) location.replace(`/mlflow/${location.hash}`);
  }
  followMlflow();
  addEventListener("hashchange", followMlflow); // a link opened where the console is open loads no page anew

  const SLOWEST_MS = 10000;
  const LOG_CHARS_MAX = 1 << 20;
  const LOG_MS = 700;
  // As drawing/plain.py has it: escape sequences go, other unseen characters become a box.
  const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])|\x9b[0-?]*[ -/]*[@-~]/g;
  const UNSEEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]/g;
  let failures = 0;
  let tag = "";

  const main = () => document.getElementById("main");

  // ------------------------------------------------------------------------------------------------ what differs

  // Make `old` what `fresh` is, node by node; a log that is being followed stays as long as it is to be followed.
  function change(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    const alike = old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && old.id === fresh.id;
    if (!alike) return void old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) return void (old.data = fresh.data);
    if (old.dataset.follow && old.dataset.follow === fresh.dataset.follow) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    changeChildren(old, fresh);
  }

  function changeChildren(old, fresh) {
    const wanted = [...fresh.childNodes];
    const ids = new Set(wanted.map((node) => node.id).filter(Boolean));
    for (const node of [...old.childNodes]) if (node.id && !ids.has(node.id)) node.remove();
    wanted.forEach((node, i) => {
      let at = old.childNodes[i];
      if (node.id && at?.id !== node.id) { // it may stand further on, or is new here
        const same = [...old.childNodes].find((other) => other.id === node.id);
        if (same) old.insertBefore(same, at ?? null);
        else old.insertBefore(node, at ?? null);
        at = old.childNodes[i];
      }
      if (!at) old.append(node);
      else if (at !== node) change(at, node);
    });
    while (old.childNodes.length > wanted.length) old.lastChild.remove();
  }

  // ------------------------------------------------------------------------------------------------------- pages

  function say(words, lost) {
    const live = document.getElementById("live");
    if (!live) return;
    if (live.lastElementChild.textContent !== words) live.lastElementChild.textContent = words;
    live.classList.toggle("lost", lost);
  }

  async function refresh() {
    const began = performance.now();
    const selected = window.getSelection();
    const busy = document.hidden || (selected && !selected.isCollapsed);
    if (!busy) {
      try {
        const headers = { "tally-part": "main", "if-none-match": tag };
        const answer = await fetch(location.href, { cache: "no-store", headers });
        if (answer.status !== 304) {
          if (!answer.ok) throw new Error(String(answer.status));
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById("main");
          const atEnd = followed?.isConnected && isAtEnd(followed);
          if (fresh) change(main(), fresh);
          if (atEnd && !followed.isConnected) toEnd(document.getElementById("log")); // what was stored took its place
          document.title = page.title;
          tag = answer.headers.get("etag") ?? "";
          followLog();
        }
        failures = 0;
        say("live", false);
      } catch {
        failures += 1;
        say("no answer from the hub, trying again", true);
      }
    }
    later(performance.now() - began);
  }

  // What takes the hub long is asked for less often.
  function later(took) {
    const every = Number(main()?.dataset.live ?? 0);
    if (every) setTimeout(refresh, Math.min(SLOWEST_MS, Math.max(every, 4 * took) * 2 ** failures));
  }

  // -------------------------------------------------------------------------------------------------------- logs

  let followed = null;

  function followLog() {
    const box = document.querySelector("pre[data-follow]");
    if (!box || box === followed) return;
    followed = box;
    read(box, { next: 0, attempt: 0, held: "" });
  }

  async function read(box, at) {
    if (!box.isConnected || followed !== box) return;
    let more = true;
    let full = false;
    if (!document.hidden) {
      try {
        const answer = await fetch(`${box.dataset.follow}&from=${at.next}`, { cache: "no-store" });
        if (answer.status === 404) return; // it has no log, or none any more: the page will say so
        if (!answer.ok) throw new Error(String(answer.status));
        const piece = await answer.json();
        if (piece.attempt && at.attempt && piece.attempt !== at.attempt) { // it is tried again: a log of its own
          [at.next, at.held, at.attempt] = [0, "", piece.attempt];
          box.textContent = "";
          return void read(box, at);
        }
        at.attempt = piece.attempt ?? at.attempt;
        full = piece.next > at.next;
        at.next = piece.next;
        if (piece.text) show(box, at, piece.text);
        more = piece.more ?? !piece.ended;
      } catch { /* the page itself says that the hub is gone */ }
    }
    if (more) setTimeout(() => read(box, at), full ? LOG_MS / 4 : LOG_MS);
  }

  // Add text to a log. Who scrolled up reads there in peace; at the end it goes on by itself.
  function show(box, at, text) {
    const atEnd = isAtEnd(box);
    text = at.held + text;
    const cut = text.lastIndexOf("\x1b"); // an escape sequence may be in two pieces
    at.held = cut >= 0 && text.length - cut < 64 && !new RegExp(ESCAPES.source).test(text.slice(cut)) ? text.slice(cut) : "";
    text = text.slice(0, text.length - at.held.length).replace(ESCAPES, "").replace(/\r\n/g, "\n");
    text = text.replace(/\r/g, "\n").replace(UNSEEN, "\ufffd");
    box.append(text);
    if (box.textContent.length > LOG_CHARS_MAX) {
      const whole = box.textContent;
      const from = whole.indexOf("\n", whole.length - LOG_CHARS_MAX / 2);
      box.textContent = whole.slice(from + 1);
      tell(box, "Only the end is shown; all of it is here when the step has ended.");
    }
    if (atEnd) toEnd(box);
  }

  function isAtEnd(box) {
    return box.scrollHeight - box.scrollTop - box.clientHeight < 30;
  }

  function toEnd(box) {
    if (box) box.scrollTop = box.scrollHeight;
  }

  function tell(box, words) {
    const note = box.parentElement.querySelector(".note");
    if (note) note.textContent = words;
  }

  later(0);
  followLog();
})();

/* What the console does beyond plain pages: live parts, keys, copying, selecting. Each page works without it. */
(() => {
  "use strict";

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const said = document.getElementById("announce");
  const announce = (text) => { said.textContent = text; };
  let hiding = 0;
  function show(text) {
    announce(text);
    said.className = "toast";
    clearTimeout(hiding);
    hiding = setTimeout(() => { said.className = "visually-hidden"; }, 6000);
  }

  /* The viewer's time zone, for the server to write times in */
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.split("; ").includes(`timezone=${zone}`)) {
    document.cookie = `timezone=${zone}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  }

  /* On a phone the menu is a row that scrolls: the page that one is on is in sight */
  const here = document.querySelector(".side [aria-current]");
  if (here) here.closest(".side").scrollLeft = here.offsetLeft - (innerWidth - here.offsetWidth) / 2;

  /* Live: <div id data-live="/address">: asked every 2 s, less often while nothing changes, up to 15 s; the answer says
     by data-live whether it goes on. It waits while the tab is hidden, or somebody does what it would disturb. */
  const FIRST = 2000, LAST = 15000, GROWTH = 1.5;
  const typing = () => document.activeElement?.matches("main input:not([type=checkbox]), main select, main textarea");
  const engaged = (part) => typing() || document.querySelector("dialog[open]") || isMarked(part)
    || part.querySelector("input[data-row]:checked, details[open]:is(.menu, :has(form))");
  const busy = (part) => document.hidden || engaged(part);

  /* Text is selected in it; an id alone may stay so, for it does not change */
  function isMarked(part) {
    const selection = getSelection();
    if (selection.isCollapsed) return false;
    const within = selection.getRangeAt(0).commonAncestorContainer;
    return part.contains(within) && !within.parentElement.closest(".id");
  }

  /* What a part says, but for how long ago and whether it is live: that changes by itself */
  function facts(part) {
    const copy = part.cloneNode(true);
    all("time, .live-mark", copy).forEach((element) => element.remove());
    return copy.innerHTML;
  }
  /* What was shown or marked here is not in the server's answer */
  if (window.Idiomorph) {
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
      !(name === "hidden" && element.matches("[data-copy], [data-shortcuts], [data-js]"))
      && !(name === "open" && element.matches("details")) && name !== "data-watched";
  }

  /* Whether a part is live is said by its own mark, or by the page's where it has none */
  const lives = {};
  const pageMark = document.getElementById("live-mark");
  function tell(id) {
    const part = document.getElementById(id), live = lives[id];
    if (!part) return;
    const mark = part.querySelector(".live-mark") || pageMark;
    const state = live.failed ? "stale" : engaged(part) ? "held" : "live";
    const words = { ...pageMark.dataset, live: mark.dataset.words ??= mark.textContent };
    const text = words[state].replace("{time}", live.since.toTimeString().slice(0, 8));
    pageMark.hidden = mark !== pageMark || !part.dataset.live;
    mark.className = `live-mark is-${state}`;
    mark.title = state === "held" ? words.why : "";
    if (mark.textContent !== text) mark.textContent = text;
    if (live.failed !== live.toldFailed) announce(text);
    live.toldFailed = live.failed;
  }
  const tellAll = () => Object.keys(lives).forEach(tell);

  function watch(part) {
    if (part.dataset.watched) return;
    part.dataset.watched = "yes";
    const id = part.id;
    const live = lives[id] = { since: new Date(), failed: false, toldFailed: false };
    let wait = FIRST, timer = 0;
    const plan = () => { clearTimeout(timer); timer = setTimeout(ask, wait); };
    const ask = async () => {
      const here = document.getElementById(id);
      if (!here?.dataset.live) return;
      if (busy(here)) return plan();
      const before = facts(here);
      try {
        await htmx.ajax("GET", here.dataset.live, { target: here, swap: "morph:outerHTML" });
      } catch {
        live.failed = true;
      }
      const after = document.getElementById(id);
      if (!after) return;
      if (live.failed) wait = LAST;
      else wait = facts(after) === before ? Math.min(LAST, wait * GROWTH) : FIRST;
      after.dataset.watched = "yes";
      equip(after);
      plan();
    };
    document.addEventListener("visibilitychange", () => { if (!document.hidden && document.getElementById(id)?.dataset.live) { wait = FIRST; plan(); } });
    plan();
  }

  /* What comes to life in a page, or in a part that has just come in */
  function equip(root) {
    all("[data-copy], [data-shortcuts], [data-js]", root).forEach((element) => { element.hidden = false; });
    all("[data-live]").forEach(watch);
    count();
    mark();
    tellAll();
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      try {
        await navigator.clipboard.writeText(copy.dataset.copy);
      } catch {  // by http:// there is no clipboard
        select(copy.previousElementSibling);
        return show(said.dataset.byHand);
      }
      copy.classList.add("is-copied");
      announce(copy.getAttribute("aria-label"));
      setTimeout(() => copy.classList.remove("is-copied"), 1200);
    }
    if (event.target.closest("[data-shortcuts]")) document.getElementById("shortcuts").showModal();
    all("details.menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  /* Rows that are selected: data-row in each, data-all in the head; data-count and data-selected say how many */
  function count() {
    const chosen = all("input[data-row]:checked").length;
    all("[data-count]").forEach((element) => { element.textContent = chosen; });
    all("[data-selected]").forEach((element) => { element.hidden = !chosen; });
    all("[data-unselected]").forEach((element) => { element.hidden = !!chosen; });
  }
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-all]")) all("input[data-row]").forEach((box) => { box.checked = event.target.checked; });
    if (event.target.matches("input[data-row], input[data-all]")) count();
    if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  });

  /* Keys: the current row is known by its address, for rows come and go */
  let current = "";
  const rows = () => all("main tr[data-href], main li[data-href]");
  const row = () => rows().find((one) => one.dataset.href === current);
  function mark() {
    rows().forEach((one) => one.classList.toggle("is-current", one.dataset.href === current));
  }
  function go(step) {
    const list = rows();
    if (!list.length) return;
    const next = list[Math.max(0, Math.min(list.length - 1, list.indexOf(row()) + step))];
    current = next.dataset.href;
    mark();
    next.scrollIntoView({ block: "nearest" });
    next.querySelector("a")?.focus({ preventScroll: true });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") all("details.menu[open]").forEach((menu) => { menu.open = false; menu.querySelector("summary").focus(); });
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select, textarea") || document.querySelector("dialog[open]")) return;
    const keys = {
      "/": () => document.getElementById("search")?.focus(),
      "?": () => document.getElementById("shortcuts")?.showModal(),
      j: () => go(1),
      k: () => go(-1),
      o: () => { if (row()) location.href = current; },
      x: () => row()?.querySelector("input[data-row]")?.click(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  /* What is no such part, as a form to sign in, is not let in. Who began to select or to type while the answer was on
     its way is not to lose it. */
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const live = lives[detail.target.id];
    if (!live) return;
    live.failed = !detail.shouldSwap || !detail.serverResponse.includes(`id="${detail.target.id}"`);
    detail.shouldSwap = !live.failed && !busy(detail.target);
    if (detail.shouldSwap) live.since = new Date();
  });
  document.addEventListener("htmx:afterSwap", (event) => equip(event.target));
  // Afterwards: while the focus moves it is nowhere, and a box that ticks others has not done so yet.
  for (const name of ["change", "focusin", "focusout", "selectionchange", "toggle"]) {
    document.addEventListener(name, () => setTimeout(tellAll), true);
  }
  equip(document);
})();

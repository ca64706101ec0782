/* What the console does beyond plain pages: live parts, keys, copying, selecting. Each page works without it. */
(() => {
  "use strict";

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const announce = (text) => { document.getElementById("announce").textContent = text; };

  /* The viewer's time zone, for the server to write times in */
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.split("; ").includes(`timezone=${zone}`)) {
    document.cookie = `timezone=${zone}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  }

  /* Live: <div id data-live="/address">: asked every 2 s, less often while nothing changes, up to 15 s; the answer says
     by data-live whether it goes on. It waits while the tab is hidden, somebody types, or rows are selected. */
  const FIRST = 2000, LAST = 15000, GROWTH = 1.5;
  const typing = () => document.activeElement?.matches("main input:not([type=checkbox]), main select, main textarea");
  const busy = (part) => document.hidden || typing() || part.querySelector("input[data-row]:checked, details[open]")
    || document.querySelector("dialog[open]") || !getSelection().isCollapsed;

  /* What a part says, but for how long ago: that changes by itself */
  function facts(part) {
    const copy = part.cloneNode(true);
    all("time", copy).forEach((time) => time.remove());
    return copy.innerHTML;
  }
  /* What was shown or marked here is not in the server's answer */
  if (window.Idiomorph) {
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
      !(name === "hidden" && element.matches("[data-copy], [data-shortcuts], [data-js]")) && name !== "data-watched";
  }

  function watch(part) {
    if (part.dataset.watched) return;
    part.dataset.watched = "yes";
    const id = part.id;
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
        wait = LAST;
      }
      const after = document.getElementById(id);
      if (!after) return;
      wait = facts(after) === before ? Math.min(LAST, wait * GROWTH) : FIRST;
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
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      try { await navigator.clipboard.writeText(copy.dataset.copy); } catch { return select(copy.previousElementSibling); }
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

  /* Who began to select or to type while the answer was on its way is not to lose it */
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.dataset.live && busy(event.detail.target)) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSwap", (event) => equip(event.target));
  equip(document);
})();

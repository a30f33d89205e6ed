"use strict";
(() => {
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const unfold = document.getElementById("unfold");
  const messages = [...document.querySelectorAll(".message")];
  const texts = new Map();
  const canMark = typeof Highlight === "function" && CSS.highlights;
  const MOST_MARKS = 2000;
  let matches = [];
  let current = -1;
  let timer = 0;

  const textOf = (message) => {
    if (!texts.has(message)) texts.set(message, message.textContent.toLowerCase());
    return texts.get(message);
  };

  const mark = (query) => {
    if (!canMark) return;
    const ranges = [];
    for (const message of query ? matches : []) {
      const walker = document.createTreeWalker(message, NodeFilter.SHOW_TEXT);
      while (walker.nextNode() && ranges.length < MOST_MARKS) {
        const node = walker.currentNode;
        const text = node.data.toLowerCase();
        for (let at = text.indexOf(query); at >= 0; at = text.indexOf(query, at + query.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, Math.min(at + query.length, node.length));
          ranges.push(range);
        }
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };

  const unfoldAround = (message, query) => {
    for (const folded of message.querySelectorAll("details")) {
      if (query && folded.textContent.toLowerCase().includes(query)) folded.open = true;
    }
    for (let outer = message.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
  };

  const find = () => {
    const query = search.value.trim().toLowerCase();
    matches = query ? messages.filter((message) => textOf(message).includes(query)) : [];
    const kept = new Set(matches);
    for (const message of messages) message.hidden = Boolean(query) && !kept.has(message);
    for (const message of matches) unfoldAround(message, query);
    current = -1;
    found.value = query ? `${matches.length} of ${messages.length}` : "";
    mark(query);
  };

  const show = (message) => {
    unfoldAround(message, "");
    message.focus({ preventScroll: true });
    message.scrollIntoView({ block: "start" });
  };

  const step = (by) => {
    if (!matches.length) return;
    current = (current + by + matches.length) % matches.length;
    found.value = `${current + 1} of ${matches.length}`;
    show(matches[current]);
  };

  const move = (by) => {
    const visible = messages.filter((message) => !message.hidden && message.closest("details.run").open);
    const at = visible.indexOf(document.activeElement.closest(".message"));
    const next = at < 0 ? (by > 0 ? 0 : visible.length - 1) : Math.min(Math.max(at + by, 0), visible.length - 1);
    if (visible.length) show(visible[next]);
  };

  const toggle = () => {
    const isOpen = unfold.getAttribute("aria-pressed") !== "true";
    unfold.setAttribute("aria-pressed", String(isOpen));
    unfold.textContent = isOpen ? "Fold all" : "Unfold all";
    for (const folded of document.querySelectorAll("#transcript details")) {
      folded.open = isOpen || folded.id === "run-0";
    }
  };

  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || !target.matches(".message, .run")) return;
    if (target.matches(".run")) target.open = true;
    if (target.hidden) {
      search.value = "";
      find();
    }
    unfoldAround(target, "");
    target.scrollIntoView({ block: "start" });
  };

  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, 120);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      if (!matches.length) find();
      step(event.shiftKey ? -1 : 1);
      search.focus({ preventScroll: true });
    } else if (event.key === "Escape") {
      search.value = "";
      find();
      search.blur();
    }
  });
  unfold.addEventListener("click", toggle);
  window.addEventListener("hashchange", follow);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = { "/": () => search.focus(), j: () => move(1), k: () => move(-1), u: toggle };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  follow();
})();

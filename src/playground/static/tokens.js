// Tokens as they are shown: spaces visible, parts of characters as bytes, coloured by rank.

import { el, number } from "./dom.js";

const VISIBLE = { " ": "·", "\n": "⏎\n", "\t": "⇥", "\r": "␍", "\u00a0": "⍽" };

// The nodes that show a piece.
export function shown(piece) {
  if (!piece.text) return [el("span", { class: "bytes" }, piece.bytes)];
  return piece.text.split(/([ \n\t\r\u00a0])/).filter(Boolean).map((part) =>
    VISIBLE[part] ? el("span", { class: "space" }, VISIBLE[part]) : part);
}

export function spoken(piece) {
  if (!piece.text) return `bytes ${piece.bytes}`;
  return piece.text.replace(/^ /, "space ").replaceAll("\n", "newline ").replaceAll("\t", "tab ");
}

export function rankClass(rank) {
  if (rank === null) return "given";
  return rank <= 10 ? "r1" : rank <= 100 ? "r2" : rank <= 1000 ? "r3" : "r4";
}

// A token of a text, as a button.
export function tokenButton({ piece, rank, log_p }, { withRank = false, label = "", ...handlers } = {}) {
  const what = rank === null ? "given" : `rank ${rank}, log-probability ${number(log_p, 2)}`;
  const button = el("button", {
    type: "button", class: `token ${rankClass(rank)}`, "aria-label": `${spoken(piece)}: ${what}${label}`, tabindex: "-1", ...handlers,
  }, ...shown(piece));
  if (withRank && rank !== null) button.append(el("span", { class: "rank" }, String(rank)));
  return button;
}

// Arrow keys move among the buttons of `container`, of which Tab reaches one.
export function roving(container, selector = "button") {
  const all = () => [...container.querySelectorAll(selector)].filter((each) => each.offsetParent);
  container.addEventListener("keydown", (event) => {
    const buttons = all(), at = buttons.indexOf(document.activeElement);
    const back = getComputedStyle(container).direction === "rtl" ? "ArrowRight" : "ArrowLeft";
    const step = { [back]: -1, ArrowUp: -1, ArrowLeft: 1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : at + step;
    if (at < 0 || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
  });
  container.addEventListener("focusin", (event) => {
    for (const each of all()) each.tabIndex = each === event.target ? 0 : -1;
  });
}

// Lets Tab reach one of the buttons.
export function letIn(container, selector = "button") {
  const buttons = [...container.querySelectorAll(selector)];
  if (buttons.length && !buttons.some((each) => each.tabIndex === 0)) buttons[0].tabIndex = 0;
}

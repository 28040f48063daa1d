// Elements and numbers. Texts become text nodes, never markup.

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

export function number(value, digits = 3) {
  return value === null ? "–" : value.toFixed(digits).replace("-", "−");
}

export function percent(share) {
  if (share === 0) return "0";
  return share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
}

// Puts the label of a bar at its end: beyond it, or within it where there is no room beyond.
export function placeValue(value, share) {
  value.style.setProperty("--at", `${100 * share}%`);
  value.classList.toggle("within", share > 0.6);
}

export function say(text) {
  byId("status").textContent = text;
}

// What went wrong in the student's code, and what works without it.
export function problemBox(problem, instead = "The rest of the page works.") {
  if (problem.kind === "unwritten") {
    return el("p", { class: "problem" }, el("strong", {}, problem.text), ` (${problem.details}). ${instead}`);
  }
  const box = el("div", { class: "problem" }, problem.text);
  if (problem.details) box.append(el("pre", { tabindex: "0", "aria-label": "Traceback" }, problem.details));
  return box;
}

export function showError(text) {
  byId("error").hidden = !text;
  byId("error").textContent = text;
}

export const DRAW_INSTEAD = "Until then, the library can draw: choose “drawn by the library”.";

// Whether the page shows the model alone, without functions of the student.
export const isAlone = () => "alone" in document.documentElement.dataset;

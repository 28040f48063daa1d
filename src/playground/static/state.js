// What is seen, in the address: a link to it shows the same.

const DEFAULTS = {
  view: "read", model: "", text: "O, my lord, what is the matter?", numbers: false, point: -1, T: 1, k: 40, h: 1, seed: 0,
  code: "yours", tree: "", at: "", n: 40, a: "", b: "", ran: false,
};
export const VIEWS = ["read", "write", "compare"];
export const state = { ...DEFAULTS };
let timer = null;

export function setDefaults(values) {
  Object.assign(DEFAULTS, values);
  Object.assign(state, values); // for an address that names a view alone
}

// Reads the address; false if it holds nothing of ours.
export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (location.hash && !location.hash.includes("=")) return false;
  const old = { ...state };
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    // A link to a view alone keeps what is seen otherwise.
    const text = given.get(name) ?? (given.size <= 1 && given.has("view") ? String(old[name]) : String(usual));
    state[name] = parsed(text, usual);
  }
  if (!VIEWS.includes(state.view)) state.view = "read";
  return true;
}

export function parsed(text, usual) {
  if (typeof usual === "boolean") return text === "true";
  if (typeof usual !== "number") return text;
  const value = Number(text);
  return text.trim() !== "" && Number.isFinite(value) ? value : usual;
}

export function usualOf(name) {
  return DEFAULTS[name];
}

export function address() {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] || name === "view");
  return `#${new URLSearchParams(changed.map(([name, value]) => [name, String(value)]))}`;
}

// Writes the address, soon: browsers refuse to do it for each move of a slider.
export function save() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", address()), 150);
}

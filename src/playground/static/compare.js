// Compare: two settings continue the same text, side by side.

import { stream } from "./api.js";
import { byId, DRAW_INSTEAD, el, number, problemBox, say, showError } from "./dom.js";
import { save, state } from "./state.js";
import { letIn, roving, tokenButton } from "./tokens.js";

const NAMES = ["model", "T", "h", "k", "code"];
const TITLES = { a: "Left", b: "Right" };
let models = [], running = null, found = {};

export const view = {
  async start(about) {
    models = about.models;
    for (const side of ["a", "b"]) {
      byId("settings").append(controls(side));
      byId("compare-figure").append(el("div", { class: "card" }, el("h3", {}, TITLES[side]),
        el("div", { class: "tokens", id: `out-${side}`, dir: "auto", role: "group", "aria-label": `${TITLES[side]}: the continuation` }),
        el("div", { id: `note-${side}`, class: "quiet" })));
      roving(byId(`out-${side}`));
    }
    byId("start").addEventListener("click", run);
    byId("stop").addEventListener("click", () => running?.abort());
  },
  async show() {
    for (const side of ["a", "b"]) showSetting(side);
    clear();
    if (state.ran) await run();
  },
  async changed() {
    running?.abort();
    clear();
    state.ran = false;
    save();
  },
  reloaded: () => {},
  data: () => ({ text: state.text, settings: { a: settingOf("a"), b: settingOf("b") }, seed: state.seed, ...found }),
};

function settingOf(side) {
  const usual = { model: state.model, T: side === "a" ? 0.7 : 1.5, h: 1, k: state.k, code: state.code };
  const given = state[side].split(",");
  const number = (text, other) => (text && Number.isFinite(Number(text)) ? Number(text) : other);
  return {
    model: given[0] || usual.model, T: number(given[1], usual.T), h: number(given[2], usual.h),
    k: number(given[3], usual.k), code: given[4] || usual.code,
  };
}

function controls(side) {
  const select = (name, options) => el("select", { "data-name": name }, ...options.map(([value, text]) => el("option", { value }, text)));
  const field = (text, control) => el("label", {}, text, " ", control);
  const set = el("fieldset", { id: `set-${side}` }, el("legend", {}, TITLES[side]),
    field("model", select("model", models.map(({ name, option }) => [name, option]))),
    field("T", el("input", { type: "number", min: "0.1", max: "3", step: "0.05", "data-name": "T" })),
    field("horizon", select("h", [["1", "1"], ["2", "2"]])),
    field("top-k", el("input", { type: "number", min: "0", "data-name": "k" })),
    field("drawn by", select("code", [["yours", "your sample"], ["library", "the library"]])));
  set.lastElementChild.className = "of-yours";
  set.addEventListener("input", () => {
    state[side] = NAMES.map((name) => set.querySelector(`[data-name=${name}]`).value).join(",");
    view.changed();
  });
  return set;
}

function showSetting(side) {
  const setting = settingOf(side);
  for (const name of NAMES) byId(`set-${side}`).querySelector(`[data-name=${name}]`).value = setting[name];
}

function clear() {
  found = {};
  for (const side of ["a", "b"]) {
    byId(`out-${side}`).replaceChildren(el("span", { class: "prompt" }, state.text));
    byId(`note-${side}`).replaceChildren();
  }
}

async function run() {
  running?.abort();
  const control = (running = new AbortController());
  clear();
  showError("");
  byId("start").disabled = true;
  await Promise.all(["a", "b"].map((side) => continued(side, control.signal)));
  if (running !== control) return;
  byId("start").disabled = false;
  if (!control.signal.aborted) {
    state.ran = true;
    save();
    say("both are complete");
  }
  running = null;
}

async function continued(side, signal) {
  const { model, T, h, k, code } = settingOf(side), out = byId(`out-${side}`), tokens = (found[side] = []);
  const asked = { model, text: state.text, temperature: T, horizon: h, top_k: k, code, seed: state.seed, count: state.n };
  try {
    await stream("continue", asked, (line) => {
      if (signal.aborted) return;
      if (line.problem) byId(`note-${side}`).replaceChildren(problemBox(line.problem, DRAW_INSTEAD));
      if (!line.piece) return;
      tokens.push(line);
      out.append(tokenButton(line));
      letIn(out);
      const total = tokens.reduce((sum, token) => sum + token.log_p, 0);
      byId(`note-${side}`).textContent =
        `${tokens.length} tokens, on average log p = ${number(total / tokens.length, 2)}; total ${number(total, 1)} nats`;
    }, signal);
  } catch (error) {
    if (!signal.aborted) showError(error.message);
  } finally {
    if (signal.aborted) byId("start").disabled = false;
  }
}

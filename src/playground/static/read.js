// Read: the tokens of a text, how likely each is, and the total.

import { latest, post, stream } from "./api.js";
import { histogram } from "./chart.js";
import { byId, el, isAlone, number, percent, placeValue, problemBox, showError } from "./dom.js";
import { save, state } from "./state.js";
import { letIn, roving, shown, spoken, tokenButton } from "./tokens.js";

const NOBODY = "Point at a token, or move to it with Tab and the arrow keys, to see what the model expected there.";
let reading = null, yours = null, loaded = null, datasets = [];

const update = latest(async () => {
  try {
    reading = await post("read", { model: state.model, text: state.text });
    showError("");
  } catch (error) {
    reading = null;
    showError(error.message);
  }
  showTokens();
  showYours((yours = null));
  showHistogram();
  if (reading) await updateYours();
});

const updateYours = latest(async () => {
  if (isAlone()) return;
  try {
    yours = (await post("read/yours", { model: state.model, text: state.text })).log_likelihood;
  } catch (error) {
    yours = { problem: { kind: "error", text: error.message } };
  }
  showYours(yours);
});

const loadHistograms = latest(async (model) => {
  if (isAlone() || loaded?.model === model) return;
  const progress = byId("progress");
  try {
    await stream("histograms", { model }, (line) => {
      if (line.values) loaded = { model, values: line.values };
      else Object.assign(progress, { hidden: false, value: line.done, max: line.of });
    });
  } catch (error) {
    byId("histogram-note").textContent = error.message;
  }
  progress.hidden = true;
  showHistogram();
});

export const view = {
  async start() {
    roving(byId("read-tokens"));
    byId("dataset").addEventListener("change", choosePiece);
    byId("piece").addEventListener("input", choosePiece);
    for (const kind of ["mouseover", "focusin", "click"]) { // Safari does not focus a button that is clicked
      byId("read-tokens").addEventListener(kind, (event) => pointAt(event.target.closest(".token")));
    }
    datasets = await post("pieces", {});
    byId("dataset").append(...datasets.map(({ name, label }) => el("option", { value: name }, label)));
  },
  async show() {
    await update();
    loadHistograms(state.model);
  },
  async changed(name) {
    if (name === "numbers") return showTokens();
    await update();
    return loadHistograms(state.model);
  },
  reloaded: () => reading && updateYours(),
  data: () => ({ model: state.model, text: state.text, reading, yours, histograms: loaded?.values }),
};

function choosePiece() {
  const dataset = datasets.find(({ name }) => name === byId("dataset").value);
  if (!dataset) return;
  byId("read-text").value = dataset.pieces[byId("piece").valueAsNumber] ?? dataset.pieces[0];
  byId("read-text").dispatchEvent(new Event("input", { bubbles: true }));
}

function showTokens() {
  if (state.point < 0) byId("detail").replaceChildren(el("p", { class: "quiet" }, NOBODY));
  const buttons = (reading?.tokens ?? []).map((token, i) => {
    const button = tokenButton(token, { withRank: state.numbers });
    button.dataset.at = i;
    return button;
  });
  byId("read-tokens").replaceChildren(...buttons);
  letIn(byId("read-tokens"));
  pointAt(buttons[state.point]);
  byId("total").textContent = reading ? number(reading.total) : "";
}

function pointAt(button) {
  if (!button || !reading) return;
  for (const each of document.querySelectorAll("#read-tokens .here")) each.classList.remove("here");
  button.classList.add("here");
  state.point = Number(button.dataset.at);
  save();
  const token = reading.tokens[state.point], box = byId("detail");
  box.replaceChildren(el("h3", {}, "Token ", el("span", { class: "token" }, ...shown(token.piece)), ` (id ${token.piece.id})`));
  if (token.rank === null) {
    box.append(el("p", {}, "The first token is given: it has no probability, and is not counted."));
    return;
  }
  const p = Math.exp(token.log_p);
  box.append(
    el("p", {}, `rank ${token.rank.toLocaleString("en")}, p = ${p < 0.001 ? p.toExponential(1) : p.toFixed(3)}, log p = ${number(token.log_p)}; the model expected:`),
    el("table", { class: "alternatives" }, ...token.instead.map(([piece, share]) => alternative(piece, share))));
}

function alternative(piece, share) {
  const fill = el("span", { class: "fill" }), value = el("span", { class: "value" }, percent(share));
  fill.style.width = `${100 * share}%`;
  placeValue(value, share);
  return el("tr", {}, el("th", { scope: "row", "aria-label": spoken(piece) }, ...shown(piece)), el("td", {}, el("span", { class: "cell" }, fill, value)));
}

function showYours(result) {
  const value = result && !result.problem ? result : null;
  byId("your-total").textContent = value ? number(value.value) : "";
  byId("difference").textContent = !value ? "" : value.is_same ? "0" : number(value.difference);
  byId("difference").className = value ? (value.is_same ? "same" : "differs") : "";
  byId("difference").title = value ? `${value.difference}, where float32 rounds` : "";
  byId("read-problem").replaceChildren(...(result?.problem ? [problemBox(result.problem)] : []));
}

function showHistogram() {
  const ours = loaded?.model === state.model ? loaded.values : null;
  byId("histogram").replaceChildren(...(ours ? histogram(ours, reading?.total ?? null) : []));
  const length = [...state.text].length;
  byId("histogram-note").textContent = !ours ? "" : length === 100
    ? "Each string has 100 characters, as this text has."
    : `Each string has 100 characters; this text has ${length.toLocaleString("en")}, so its total is not comparable.`;
}

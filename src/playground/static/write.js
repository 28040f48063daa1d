// Write: the distribution of the next token, and a tree of the tokens that were taken.

import { latest, post } from "./api.js";
import { choices, entropyChart } from "./chart.js";
import { byId, DRAW_INSTEAD, el, isAlone, number, percent, placeValue, problemBox, say, showError } from "./dom.js";
import { save, state } from "./state.js";
import { letIn, roving, shown, spoken, tokenButton } from "./tokens.js";
import { nodeAt, parseTree } from "./tree.js";

const ROWS = 40;
let root = parseTree(""), here = root, next = null, yours = null, rows = [];

const question = () => ({
  model: state.model, text: state.text, ids: here.path().map((node) => node.id), temperature: state.T, top_k: state.k,
  seed: state.seed, horizon: state.h, code: state.code,
});

const update = latest(async () => {
  const asked = here;
  try {
    const answer = await post("next", question());
    showError("");
    next = answer;
    const path = asked.path().slice(-next.path.length || Infinity);
    next.path.forEach((step, i) => Object.assign(path[i], { piece: step.piece, rank: step.rank, log_p: step.log_p }));
  } catch (error) {
    next = null;
    showError(error.message);
  }
  yours = null;
  showAll();
  if (next) updateYours();
});

const updateYours = latest(async () => {
  if (isAlone()) return;
  try {
    yours = await post("next/yours", question());
  } catch (error) {
    yours = { horizons: [1, 2].map(() => ({ problem: { kind: "error", text: error.message } })) };
  }
  showYours();
});

export const view = {
  async start() {
    const body = byId("bars").tBodies[0];
    rows = Array.from({ length: ROWS + 1 }, (_, i) => new Row(i === ROWS));
    body.append(...rows.map((row) => row.element));
    for (const each of [body, byId("path"), byId("tree")]) roving(each);
    byId("sample").addEventListener("click", () => sample(1));
    byId("sample-more").addEventListener("click", () => sample(10));
    byId("new-seed").addEventListener("click", () => {
      const seed = document.querySelector("#write [data-state=seed]");
      seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
      seed.dispatchEvent(new Event("input", { bubbles: true }));
    });
  },
  async show() {
    root = parseTree(state.tree);
    here = nodeAt(root, state.at);
    await namePieces();
    await update();
  },
  async changed(name) {
    if (name === "text" || name === "model") {
      root = here = parseTree("");
      keep();
    }
    if (["T", "k", "text", "model"].includes(name)) await update();
  },
  reloaded: () => next && updateYours(),
  data: () => ({ ...question(), tree: state.tree, next, yours }),
};

// The pieces of all tokens of the tree, which the address has only as ids.
async function namePieces() {
  const ids = [...new Set(root.all().map((node) => node.id))];
  if (!ids.length) return;
  try {
    const pieces = await post("tokens", { model: state.model, ids });
    const of = new Map(pieces.map((piece) => [piece.id, piece]));
    for (const node of root.all()) node.piece = of.get(node.id);
  } catch (error) {
    root = here = parseTree("");
    showError(error.message);
  }
}

function keep() {
  state.tree = String(root);
  state.at = here.path().map((node) => node.id).join(".");
  save();
}

async function go(node) {
  here = node;
  keep();
  await update();
}

async function take(piece) {
  say(`${spoken(piece)} taken`);
  const node = here.child(piece.id);
  node.piece = piece;
  await go(node);
}

async function sample(count) {
  const buttons = [byId("sample"), byId("sample-more")];
  for (const each of buttons) each.disabled = true;
  byId("write-problem").replaceChildren();
  try {
    for (let i = 0; i < count; i++) {
      const drawn = await post("draw", question());
      if (drawn.problem) {
        byId("write-problem").replaceChildren(problemBox(drawn.problem, DRAW_INSTEAD));
        break;
      }
      await take(drawn);
    }
  } catch (error) {
    showError(error.message);
  }
  for (const each of buttons) each.disabled = false;
}

// A row of the table: a token and its share at both horizons; the last row is that of all others.
class Row {
  constructor(isRest) {
    this.isRest = isRest;
    this.button = el("button", { type: "button", class: "take", tabindex: "-1", onclick: () => take(this.piece) });
    this.head = el("th", { scope: "row" }, isRest ? "all others" : this.button);
    this.cells = [0, 1].map(() => ({
      cumulative: el("span", { class: "cumulative" }), fill: el("span", { class: "fill" }),
      mark: el("span", { class: "yours-mark", hidden: true }), value: el("span", { class: "value" }),
    }));
    const cells = this.cells.map((cell) => el("td", {}, el("span", { class: "cell" }, ...Object.values(cell))));
    this.element = el("tr", { class: isRest ? "rest" : "" }, this.head, ...cells);
  }

  showPiece(piece) {
    this.element.hidden = !piece;
    if (!piece || this.piece?.id === piece.id) return;
    this.piece = piece;
    this.button.replaceChildren(...shown(piece));
    this.button.setAttribute("aria-label", `take ${spoken(piece)}`);
  }

  showShare(horizon, p, before) {
    const { fill, value, cumulative } = this.cells[horizon];
    fill.style.width = `${100 * p}%`;
    value.textContent = percent(p);
    placeValue(value, p);
    cumulative.style.left = `${100 * before}%`;
    cumulative.style.width = `${100 * Math.min(p, 1 - before)}%`;
    fill.title = `p = ${p.toPrecision(4)}, together ${percent(before + p)}`;
  }

  showYours(horizon, p) {
    const { mark } = this.cells[horizon];
    mark.hidden = p === undefined;
    if (p !== undefined) mark.style.left = `${100 * p}%`;
  }
}

function showAll() {
  byId("T-value").textContent = state.T.toFixed(2);
  showPath();
  const bars = byId("bars"), hadFocus = bars.contains(document.activeElement);
  bars.hidden = !next;
  rows.forEach((row, i) => row.isRest ? (row.element.hidden = !next) : row.showPiece(next?.tokens[i]));
  next?.horizons.forEach((horizon, h) => {
    let sum = 0;
    horizon.p.forEach((p, i) => { rows[i].showShare(h, p, sum); sum += p; });
    rows[ROWS].showShare(h, horizon.tail, sum);
  });
  if (!hadFocus) letIn(bars);
  showYours();
  showTree();
}

function showPath() {
  const tokens = here.path().map((node) => tokenButton(node, {
    label: "; choose another in its place", title: "choose another token in its place", onclick: () => go(node.parent),
  }));
  byId("path").replaceChildren(el("span", { class: "prompt" }, state.text), ...tokens);
  letIn(byId("path"));
  const steps = (next?.path ?? []).map(({ piece, entropy }) => ({ label: piece.text.trim() || piece.bytes || "⏎", entropy }));
  byId("entropies").replaceChildren(...(next ? [entropyChart([...steps, { label: "next", entropy: next.horizons[0].entropy }])] : []));
}

function showYours() {
  [1, 2].forEach((horizon, h) => {
    const result = yours?.horizons[h], bars = next?.horizons[h], head = byId(`head-${horizon}`);
    rows.slice(0, ROWS).forEach((row, i) => row.showYours(h, result?.p?.[i]));
    if (!bars) return;
    head.replaceChildren(`entropy ${number(bars.entropy, 2)} nats: as free as ${choices(bars.entropy)} equal choices`);
    if (h === 1 && next.candidates !== state.k) head.append(el("span", {}, `of the ${next.candidates} likeliest tokens only`));
    if (result?.problem) head.append(problemBox(result.problem));
    else if (result) head.append(el("span", { class: result.is_same ? "same" : "differs" }, result.is_same
      ? "yours: difference 0" : `yours: a share differs by ${number(result.difference)}`));
  });
}

function showTree() {
  const branches = (node) => el("ul", {}, ...node.children.map((child) => {
    const chain = [child];
    while (chain.at(-1).children.length === 1) chain.push(chain.at(-1).children[0]);
    const last = chain.at(-1);
    return el("li", {}, ...chain.map(leaf), ...(last.children.length ? [branches(last)] : []));
  }));
  const leaf = (node) => el("button", {
    type: "button", class: `token ${node === here ? "here" : ""}`, tabindex: "-1", "aria-current": node === here && "true",
    "aria-label": `go on after ${spoken(node.piece)}`, onclick: () => go(node),
  }, ...shown(node.piece));
  const start = el("button", { type: "button", class: `token ${here === root ? "here" : ""}`, tabindex: "-1", onclick: () => go(root) }, "the text");
  byId("tree").replaceChildren(start, branches(root));
  letIn(byId("tree"));
}

// The page: which view is seen, the controls, and the student's files.

import { post } from "./api.js";
import { view as compare } from "./compare.js";
import { byId, el, showError } from "./dom.js";
import { exportButtons } from "./export.js";
import { view as read } from "./read.js";
import { parsed, readAddress, save, setDefaults, state, usualOf, VIEWS } from "./state.js";
import { view as write } from "./write.js";

const POLL = 1000; // milliseconds between two looks at the student's files
const views = { read, write, compare };
let longest = Infinity, stamp = "";

async function start() {
  byId("main").addEventListener("input", changed);
  byId("model").addEventListener("input", changed);
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
  addEventListener("hashchange", () => readAddress() && show());
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", follow);
  const about = await post("about", {});
  longest = about.longest_text;
  setDefaults({ model: about.models[0].name, k: about.top_k, seed: about.seed });
  byId("model").append(...about.models.map(({ name, option }) => el("option", { value: name }, option)));
  if (about.questions === null) { // there are no functions of the student here, only the model
    document.documentElement.dataset.alone = "true";
    setDefaults({ code: "library" });
  } else byId("questions").textContent = `${about.questions}/`;
  readAddress();
  for (const box of document.querySelectorAll("[data-export]")) exportButtons(box, views[box.dataset.export].data);
  stamp = about.stamp;
  await Promise.all(Object.values(views).map((view) => view.start(about)));
  await show();
  document.documentElement.dataset.ready = "true";
  setInterval(lookForChanges, POLL);
}

// A click on a view keeps the text and all settings.
function follow(event) {
  event.preventDefault();
  state.view = event.currentTarget.dataset.view;
  const link = new URLSearchParams(location.hash.slice(1));
  link.set("view", state.view);
  history.pushState(null, "", `#${link}`);
  save();
  show();
}

async function show() {
  for (const name of VIEWS) byId(name).hidden = name !== state.view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("model-label").hidden = state.view === "compare"; // there, each side has its own
  document.title = `${state.view[0].toUpperCase()}${state.view.slice(1)} · Playground`;
  showControls();
  showError("");
  await views[state.view].show();
}

function showControls(except = null) {
  for (const control of document.querySelectorAll("[data-state]")) {
    if (control === except) continue;
    const value = state[control.dataset.state];
    if (control.type === "checkbox") control.checked = value;
    else if (control.value !== String(value)) control.value = value;
  }
  byId("T-value").textContent = state.T.toFixed(2);
}

function changed({ target }) {
  const name = target.dataset.state;
  if (!name) return;
  if (name === "text" && target.value.length > longest) {
    showError(`the text has ${target.value.length.toLocaleString("en")} characters; at most ${longest.toLocaleString("en")} are read: shorten it`);
    return;
  }
  state[name] = target.type === "checkbox" ? target.checked : parsed(target.value, usualOf(name));
  if (name === "text" || name === "model") Object.assign(state, { tree: "", at: "", point: -1 });
  showControls(target);
  save();
  views[state.view].changed(name);
}

async function lookForChanges() {
  if (document.hidden) return;
  try {
    const now = (await post("questions", {})).stamp;
    if (now !== stamp) {
      byId("reloaded").textContent = `read again at ${new Date().toLocaleTimeString()}`;
      views[state.view].reloaded();
    }
    stamp = now;
  } catch (error) {
    showError(error.message);
  }
}

start().catch((error) => showError(error.message));

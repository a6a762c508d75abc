// The page: asks the host for the plan, loads the model, lets the person chat and measure.

import { Chat } from "./chat.js";
import { figuresOf, measure } from "./bench.js";
import { Model } from "./model.js";
import { forget, keepsSomething, modelParts, survivesReload } from "./store.js";

const byId = (id) => document.getElementById(id);
const state = { plan: null, model: null, chat: null, load: null, unsent: null };

const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);
/** A module with one vector instruction: it is valid where the browser knows them. */
const hasSimd = () => WebAssembly.validate(SIMD);

const counted = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function note(text) {
  const item = document.createElement("li");
  item.textContent = text;
  byId("notes").append(item);
}

function bar(id, share) {
  byId(id).hidden = share === null;
  if (share !== null) byId(id).value = share;
}

/** What was never downloaded cannot be deleted. */
async function offerToForget() {
  byId("forget").hidden = !(await keepsSomething());
}

async function begin() {
  offerToForget();
  if ("serviceWorker" in navigator) {
    navigator.serviceWorker.register("service-worker.js").catch(() => {
      note("The browser keeps this page for no offline use, because it does not trust the certificate.");
    });
  } else {
    note("Without a secure page (https) the model is kept, but this page cannot be opened offline.");
  }
  try {
    const answer = await fetch("plan.json", { cache: "no-cache" });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    state.plan = await answer.json();
  } catch (error) {
    byId("about").textContent = `The host cannot be reached (${error.message}). Is it still running?`;
    return;
  }
  const { artifact, size_bytes } = state.plan;
  byId("about").textContent = `${artifact}, ${(size_bytes / 1e6).toFixed(0)} MB, runs here and nowhere else.`;
  if (!globalThis.crossOriginIsolated) note("One thread only: threads need a secure page (--https).");
  if (!hasSimd()) note("This browser has no vector instructions; wllama needs them.");
  const memory = navigator.deviceMemory;
  if (memory && size_bytes > 0.5 * memory * 2 ** 30) {
    note(`This phone has about ${memory} GB of memory: the model may be too large for its browser.`);
  }
  byId("load").disabled = false;
}

async function load() {
  byId("load").disabled = true;
  const status = byId("model-status");
  try {
    const start = performance.now();
    status.textContent = "Downloading …";
    const { blobs, fetched } = await modelParts(state.plan, (share) => bar("model-progress", share));
    const fetch_s = (performance.now() - start) / 1000;
    status.textContent = "Loading …";
    const began = performance.now();
    state.model = await Model.load(state.plan, blobs);
    state.load = { fetched_bytes: fetched, fetch_s, load_s: (performance.now() - began) / 1000 };
    const origin = fetched ? `downloaded in ${fetch_s.toFixed(1)} s` : "from the browser's cache";
    const threads = counted(state.model.threads, "thread");
    status.textContent = `Ready: ${origin}, loaded in ${state.load.load_s.toFixed(2)} s, ${threads}.`;
    if (!survivesReload()) {
      note("The browser keeps no data for this page: after a reload the model is downloaded again.");
    }
    ready();
  } catch (error) {
    status.textContent = `${reason(error)} What was downloaded is kept; try again.`;
    byId("load").disabled = false;
  } finally {
    bar("model-progress", null);
    offerToForget();
  }
}

function reason(error) {
  const text = String(error?.message ?? error);
  if (/fetch|network|connection|host answered/i.test(text)) {
    return `The connection to the host was lost (${text}).`;
  }
  return `This phone's browser cannot load the model, perhaps for lack of memory (${text}).`;
}

function ready() {
  byId("measure").disabled = false;
  if (!state.plan.template) {
    note("The model's chat template cannot be taken apart, so there is no chat here.");
    return;
  }
  try {
    state.chat = new Chat(state.model, state.plan);
  } catch {
    note("This browser cannot read the rules that look for signs of danger, so there is no chat here.");
    return;
  }
  byId("said").disabled = byId("send").disabled = false;
}

/** While the model is busy with one thing, the other has to wait. */
function setBusy(isBusy) {
  byId("send").disabled = byId("said").disabled = isBusy || !state.chat;
  byId("measure").disabled = byId("clear").disabled = byId("forget").disabled = isBusy;
  byId("stop").disabled = !isBusy || !state.chat?.isBusy;
}

async function send(event) {
  event.preventDefault();
  const said = byId("said").value.trim();
  if (!said || !state.chat || state.chat.isBusy) return;
  byId("said").value = "";
  const answered = state.chat.answer(said);
  setBusy(true);
  await answered;
  setBusy(false);
  byId("said").focus();
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const content = answer.headers.get("content-type")?.includes("json") ? await answer.json() : {};
  if (!answer.ok) throw new Error(content.refused ?? `the host answered ${answer.status}`);
  return content;
}

async function bench() {
  const status = byId("bench-status");
  const say = (text, share) => {
    if (status.textContent !== `${text}.`) status.textContent = `${text}.`;
    bar("bench-progress", share);
  };
  setBusy(true);
  try {
    const { run } = await post("runs", {});
    const { plan, model } = state;
    const { wake_lock, ...found } = await measure(model, plan, Number(byId("heat").value), say);
    const device = {
      name: byId("phone-name").value,
      user_agent: navigator.userAgent.slice(0, 400),
      cores: navigator.hardwareConcurrency || 1,
      memory_gb: navigator.deviceMemory ?? null,
      isolated: Boolean(globalThis.crossOriginIsolated),
      simd: hasSimd(),
      wake_lock,
    };
    state.unsent = { run, plan: plan.sha256, device, load: state.load, threads: model.threads, ...found };
    showFigures(figuresOf(plan, found, state.load, model.threads));
    await deliver();
  } catch (error) {
    status.textContent = `Not measured: ${error.message}.`;
  } finally {
    bar("bench-progress", null);
    setBusy(false);
  }
}

async function deliver() {
  const status = byId("bench-status");
  byId("again").hidden = true;
  try {
    const { tokens } = await post("results", state.unsent);
    state.unsent = null;
    const words = {
      same: "the same as on the host",
      "near tie": "the same up to a near tie",
      differ: "NOT those of the host",
    };
    status.textContent = `The host has the figures. The tokens are ${words[tokens]}.`;
  } catch (error) {
    status.textContent = `Measured, but the host did not take it: ${error.message}.`;
    byId("again").hidden = false;
  }
}

function showFigures(rows) {
  const made = rows.map(([name, value]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    const cell = document.createElement("td");
    cell.textContent = value;
    row.append(head, cell);
    return row;
  });
  byId("figure-rows").replaceChildren(...made);
  byId("figures").hidden = false;
}

byId("load").addEventListener("click", load);
byId("chat").addEventListener("submit", send);
byId("stop").addEventListener("click", () => {
  if (state.chat) state.chat.isStopped = true;
});
byId("clear").addEventListener("click", () => state.chat?.clear());
byId("measure").addEventListener("click", bench);
byId("again").addEventListener("click", deliver);
byId("forget").addEventListener("click", async () => {
  await forget();
  await offerToForget();
  byId("model-status").textContent = "The download is deleted.";
});
begin();

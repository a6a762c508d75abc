// The bench: the host's dialogues for the comparison of tokens, the host's prompt for speed, and heat.

import { render } from "./model.js";

const WINDOW_S = 10;
const REPLY_TOKENS = 16;

/** To microseconds: the host takes no result whose numbers have more digits than clocks. */
const rounded = (seconds) => Number(seconds.toFixed(6));

/** A screen that goes dark slows the phone down; asked for again whenever the page is shown again. */
class WakeLock {
  constructor() {
    this.held = false;
    this.onShown = () => document.visibilityState === "visible" && this.ask();
  }

  async ask() {
    try {
      this.lock = await navigator.wakeLock.request("screen");
      this.held = true;
    } catch {
      // not on this browser, or not on this page: the result says so
    }
  }

  async begin() {
    document.addEventListener("visibilitychange", this.onShown);
    await this.ask();
  }

  end() {
    document.removeEventListener("visibilitychange", this.onShown);
    this.lock?.release().catch(() => {});
  }
}

/** Counts how often the page was hidden; a hidden page is slowed down by the browser. */
class Visibility {
  constructor() {
    this.hidden = 0;
    this.count = () => {
      if (document.visibilityState === "hidden") this.hidden++;
    };
    document.addEventListener("visibilitychange", this.count);
  }

  shown() {
    if (document.visibilityState === "visible") return Promise.resolve();
    return new Promise((resolve) => {
      const wait = () => {
        if (document.visibilityState !== "visible") return;
        document.removeEventListener("visibilitychange", wait);
        resolve();
      };
      document.addEventListener("visibilitychange", wait);
    });
  }

  /** Run a measurement until the page was shown during all of it. */
  async whileShown(measure) {
    for (;;) {
      await this.shown();
      const before = this.hidden;
      const result = await measure();
      if (this.hidden === before && document.visibilityState === "visible") return result;
    }
  }

  end() {
    document.removeEventListener("visibilitychange", this.count);
  }
}

async function answerOf(model, plan, comparison) {
  const text = plan.template ? render(plan.template, comparison.messages) : comparison.text;
  const prompt_ids = await model.tokenize(text);
  const reply_ids = [];
  await model.forget();
  for await (const token of model.tokens(prompt_ids, REPLY_TOKENS, { stop: false })) reply_ids.push(token.id);
  return { prompt_ids, reply_ids };
}

async function roundOf(model, plan) {
  const token_times_s = [];
  await model.forget();
  for await (const token of model.tokens(plan.bench_ids, plan.decode_tokens, { stop: false })) {
    token_times_s.push(rounded(token.seconds));
  }
  return { token_times_s };
}

async function heatOf(model, plan, seconds, progress) {
  const windows = [];
  const prompt = plan.bench_ids.slice(0, 16);
  const begin = performance.now();
  let windowBegin = begin;
  let tokens = 0;
  while (performance.now() - begin < 1000 * seconds) {
    await model.forget();
    for await (const _ of model.tokens(prompt, plan.decode_tokens, { stop: false })) tokens++;
    const now = performance.now();
    if (now - windowBegin >= 1000 * WINDOW_S || now - begin >= 1000 * seconds) {
      windows.push({
        end_s: rounded((now - begin) / 1000),
        seconds: rounded((now - windowBegin) / 1000),
        tokens,
      });
      windowBegin = now;
      tokens = 0;
    }
    progress((now - begin) / 1000 / seconds);
  }
  return windows;
}

/**
 * Everything that is sent, apart from the load.
 * @param heat seconds of decoding without a pause; 0: none
 * @param say called with what is being done and the share of it that is done
 */
export async function measure(model, plan, heat, say) {
  const lock = new WakeLock();
  const page = new Visibility();
  await lock.begin();
  try {
    const answers = [];
    for (const [number, comparison] of plan.comparisons.entries()) {
      const all = plan.comparisons.length;
      say(`Comparing tokens with the host: ${number + 1} of ${all}`, number / all);
      answers.push(await answerOf(model, plan, comparison));
    }
    await roundOf(model, plan); // warm-up
    const samples = [];
    while (samples.length < plan.rounds) {
      say(`Measuring: round ${samples.length + 1} of ${plan.rounds}`, samples.length / plan.rounds);
      samples.push(await page.whileShown(() => roundOf(model, plan)));
    }
    const hot = (share) => say("Decoding without a pause", share);
    const windows = heat ? await page.whileShown(() => heatOf(model, plan, heat, hot)) : [];
    return { answers, samples, windows, hidden: page.hidden, wake_lock: lock.held };
  } finally {
    page.end();
    lock.end();
  }
}

const middle = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/** The figures as the page shows them: name and value. */
export function figuresOf(plan, found, load, threads) {
  const rate = ({ token_times_s: t }) => (t.length - 1) / (t.at(-1) - t[0]);
  const firstTokenS = middle(found.samples.map((s) => s.token_times_s[0]));
  const rows = [
    ["load", `${load.load_s.toFixed(2)} s`],
    ["first token", `${firstTokenS.toFixed(2)} s`],
    ["prefill", `${(plan.bench_ids.length / firstTokenS).toFixed(1)} tokens/s`],
    ["decode", `${middle(found.samples.map(rate)).toFixed(1)} tokens/s`],
    ["threads", String(threads)],
  ];
  const windows = found.windows;
  if (windows.length && windows.at(-1).end_s >= 120) {
    const speed = (some) => some.reduce((n, w) => n + w.tokens, 0) / some.reduce((n, w) => n + w.seconds, 0);
    const last = windows.at(-1).end_s - 61;
    const first = windows.filter((w) => w.end_s <= 61);
    const end = windows.filter((w) => w.end_s - w.seconds >= last);
    rows.push(["first minute → last", `${speed(first).toFixed(1)} → ${speed(end).toFixed(1)} tokens/s`]);
  }
  return rows;
}

// The conversation on the page.

import { render } from "./model.js";
import { signsOf } from "./crisis.js";

const byId = (id) => document.getElementById(id);

export class Chat {
  constructor(model, plan) {
    this.model = model;
    this.plan = plan;
    this.turns = [];
    this.isBusy = false;
    this.isStopped = false;
    this.showsSigns = plan.crisis ? signsOf(plan.crisis) : () => false;
  }

  messages() {
    return [{ role: "system", content: this.plan.system }, ...this.turns];
  }

  /** The prompt's tokens, and how many of the oldest turns were left out: in pairs, where they do not fit. */
  async prompt() {
    for (let leftOut = 0; ; leftOut += 2) {
      const ids = await this.model.tokenize(render(this.plan.template, this.messages()));
      if (ids.length + this.plan.max_new_tokens <= this.plan.context) return { ids, leftOut };
      if (this.turns.length < 3) throw new Error("This message is too long for the model.");
      this.turns.splice(0, 2);
    }
  }

  /** Answer; without a reply, and after an error, the conversation is as it was before. */
  async answer(said) {
    this.isBusy = true;
    this.isStopped = false;
    const before = [...this.turns];
    this.turns.push({ role: "user", content: said });
    show("user", "You", said);
    const bubble = show("assistant", "Model", "…");
    bubble.setAttribute("aria-busy", "true"); // a screen reader waits for the whole reply
    try {
      const text = this.showsSigns(said) ? this.help(bubble) : await this.generate(bubble);
      if (text) this.turns.push({ role: "assistant", content: text });
      else this.turns = before;
    } catch (error) {
      this.turns = before;
      bubble.lastChild.textContent = `Something went wrong: ${error.message}`;
    } finally {
      bubble.removeAttribute("aria-busy");
      this.isBusy = false;
    }
  }

  /** The help that is named in place of the model's reply. */
  help(bubble) {
    bubble.lastChild.textContent = this.plan.crisis.reply;
    bubble.classList.add("help");
    return this.plan.crisis.reply;
  }

  /** The model's reply, shown as it comes; empty where it was stopped before its first token. */
  async generate(bubble) {
    const decoder = new TextDecoder();
    let text = "";
    const times = [];
    const { ids, leftOut } = await this.prompt();
    const stop = () => this.isStopped;
    for await (const token of this.model.tokens(ids, this.plan.max_new_tokens, { isStopped: stop })) {
      times.push(token.seconds);
      if (this.model.stopIds.has(token.id)) break;
      text += decoder.decode(token.bytes, { stream: true });
      bubble.lastChild.textContent = text;
    }
    text = (text + decoder.decode()).trim();
    bubble.lastChild.textContent = text || (this.isStopped ? "(stopped)" : "(nothing)");
    byId("chat-figures").textContent = figures(times, ids.length, text ? leftOut : 0);
    return text;
  }

  clear() {
    this.turns = [];
    byId("turns").replaceChildren();
    byId("chat-figures").textContent = "";
  }
}

/** Speed and lengths of a reply, and how many old turns the model does not see any more. */
function figures(times, promptTokens, leftOut) {
  if (times.length === 0) return "";
  const rate = times.length > 1 ? (times.length - 1) / (times.at(-1) - times[0]) : 0;
  const full = leftOut ? `; the context is full: the ${leftOut} oldest turns are left out` : "";
  return (
    `first token ${times[0].toFixed(2)} s, ${rate.toFixed(1)} tokens/s, ${times.length} tokens; ` +
    `prompt of ${promptTokens} tokens${full}`
  );
}

function show(role, who, text) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  const name = document.createElement("span");
  name.className = "who";
  name.textContent = `${who}: `;
  turn.append(name, text); // as text, never as HTML
  byId("turns").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

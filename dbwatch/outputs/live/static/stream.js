// The connection to the server: updates while the page is seen, reconnecting when the server is gone.

const SILENCE = 3500; // milliseconds without news from which the server counts as gone
const RETRY = 1000;

export class Stream {
  #source = null;
  #retry = 0;
  #heardAt = 0;
  #since = 0;
  #paused = false;
  #link = "connecting";

  constructor(onState, onLink) {
    this.onState = onState;
    this.onLink = onLink;
    document.addEventListener("visibilitychange", () => this.#settle());
    addEventListener("online", () => this.#settle());
    setInterval(() => this.#watch(), 500);
    this.#settle();
  }

  get paused() {
    return this.#paused;
  }

  set paused(value) {
    this.#paused = value;
    this.#settle();
  }

  #settle() {
    const wanted = !this.#paused && !document.hidden;
    if (wanted && !this.#source) {
      this.#heardAt = performance.now();
      if (this.#link !== "gone") this.#say("connecting");
      this.#open();
    } else if (!wanted) {
      this.#close();
      this.#say(this.#paused ? "paused" : "hidden");
    }
  }

  #open() {
    this.#close();
    const source = new EventSource(`api/events?since=${this.#since}`);
    this.#source = source;
    let connected = false;
    source.onopen = () => {
      connected = true;
    };
    const heard = (event) => {
      this.#heardAt = performance.now();
      this.#since = Number(event.lastEventId);
      this.#say("live");
      this.onState(JSON.parse(event.data), event.type === "all");
    };
    source.addEventListener("all", heard);
    source.addEventListener("update", heard);
    source.onerror = () => {
      // A stream ends after some seconds by intention; only one that could not be opened means trouble.
      this.#close();
      if (!connected) this.#say("gone");
      this.#retry = setTimeout(() => this.#open(), connected ? 20 : RETRY);
    };
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #watch() {
    if (this.#source && performance.now() - this.#heardAt > SILENCE) this.#say("gone");
  }

  #say(link) {
    this.#link = link;
    this.onLink(link);
  }
}

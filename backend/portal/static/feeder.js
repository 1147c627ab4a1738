// Plays a day's trades on the feeder: for each interval the paths that energy takes, with dots that move along them.

const SVG = "http://www.w3.org/2000/svg";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const STEP_MILLISECONDS = 900;

const element = (name, attributes) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// How one looks at it, also after the picture was fetched again: at the newest interval, at a chosen one, or playing.
const view = { place: undefined, playing: false };

class Feeder {
  constructor(root) {
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.layer = root.querySelector("[data-trades]");
    this.slider = root.querySelector("input[type=range]");
    this.clock = root.querySelector("[data-clock]");
    this.sum = root.querySelector("[data-sum]");
    this.button = root.querySelector("[data-play]");
    this.number = new Intl.NumberFormat(document.documentElement.lang, {
      minimumFractionDigits: 2,
      maximumFractionDigits: 2,
    });
    this.slider.addEventListener("input", () => {
      this.stop();
      this.choose(Number(this.slider.value));
    });
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    if (view.place !== undefined) this.slider.value = view.place;
    if (view.playing) this.play();
    this.show();
  }

  get step() {
    return this.data.steps[Number(this.slider.value)];
  }

  /** Whoever goes to the end stays there when more comes in. */
  choose(place) {
    this.slider.value = place;
    view.place = place < this.data.steps.length - 1 ? place : undefined;
    this.show();
  }

  play() {
    view.playing = true;
    this.button.setAttribute("aria-pressed", "true");
    this.timer = setInterval(() => {
      if (!this.slider.isConnected) clearInterval(this.timer);
      else this.choose((Number(this.slider.value) + 1) % this.data.steps.length);
    }, STEP_MILLISECONDS);
  }

  stop() {
    view.playing = false;
    clearInterval(this.timer);
    this.timer = undefined;
    this.button.setAttribute("aria-pressed", "false");
  }

  show() {
    const trades = this.data.trades[this.step.interval] ?? [];
    const energy = trades.filter((trade) => !trade.own).reduce((sum, trade) => sum + trade.wh, 0);
    this.clock.textContent = this.step.clock;
    this.sum.textContent = `${this.number.format(energy / 1000)} kWh`;
    this.slider.setAttribute("aria-valuetext", `${this.step.clock}, ${this.sum.textContent}`);
    this.layer.replaceChildren(...trades.flatMap((trade) => this.trade(trade)));
  }

  trade({ path, wh, own }) {
    const kind = own ? " own" : "";
    const width = Math.min(9, 1.5 + Math.sqrt(wh) / 8);
    const line = element("path", { d: path, class: `trade${kind}`, "stroke-width": width.toFixed(1) });
    if (still.matches) return [line];
    const count = wh > 400 ? 3 : wh > 100 ? 2 : 1;
    const dots = Array.from({ length: count }, (_, place) => {
      const dot = element("circle", { r: (2.5 + width / 3).toFixed(1), class: `dot${kind}` });
      const motion = element("animateMotion", { path, dur: "2.4s", begin: `${(-2.4 * place) / count}s`, repeatCount: "indefinite" });
      dot.append(motion);
      return dot;
    });
    return [line, ...dots];
  }
}

export function playFeeders(root) {
  for (const found of root.querySelectorAll("[data-feeder]:not([data-playing])")) {
    found.dataset.playing = "yes";
    new Feeder(found);
  }
}

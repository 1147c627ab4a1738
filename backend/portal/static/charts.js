// Draws charts from the data that stand beside them. Every figure is in the page's tables too; this only shows their shape.

const styles = () => getComputedStyle(document.documentElement);
const language = document.documentElement.lang;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const charts = new Set();

function palette() {
  const found = styles();
  const names = ["inside", "import", "export", "dso", "soft", "ink", "line", "line-soft", "card"];
  return Object.fromEntries(names.map((name) => [name, found.getPropertyValue(`--${name}`).trim()]));
}

const fade = (colour) => `color-mix(in srgb, ${colour} 55%, transparent)`;

/** A colour as the canvas takes it: it knows no color-mix. */
function solid(colour) {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = colour;
  return probe.fillStyle;
}

function mixed(colour, light) {
  if (!light) return solid(colour);
  const probe = document.createElement("span");
  probe.style.color = fade(colour);
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  const parts = found.match(/[\d.]+/g)?.map(Number) ?? [];
  if (!found.startsWith("color(")) return found;
  const [red, green, blue, alpha = 1] = parts;
  return `rgba(${[red, green, blue].map((part) => Math.round(part * 255)).join(",")},${alpha})`;
}

/** The tooltip as an element: as text it would need inline styles, which the page's policy forbids. */
function tip(rows, spec, number) {
  const box = document.createElement("div");
  box.className = "tip";
  const title = document.createElement("b");
  title.textContent = rows[0].axisValueLabel;
  box.append(title);
  for (const row of rows) {
    if (row.value === null || row.value === undefined) continue;
    const line = document.createElement("div");
    const name = document.createElement("span");
    name.style.setProperty("--mark", row.color);
    name.textContent = row.seriesName;
    const value = document.createElement("strong");
    value.textContent = `${number.format(Math.abs(row.value))} ${spec.unit}`;
    line.append(name, value);
    box.append(line);
  }
  return box;
}

function option(spec, element) {
  const colours = palette();
  const number = new Intl.NumberFormat(language, {
    minimumFractionDigits: spec.places,
    maximumFractionDigits: spec.places,
  });
  const short = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
  const font = getComputedStyle(document.body).fontFamily;
  const label = { color: colours.soft, fontFamily: font, fontSize: 12 };
  const mirrored = spec.series.some((series) => series.sign);
  const every = spec.slots > 31 ? Math.round(spec.slots / (element.clientWidth < 520 ? 4 : 8)) : 0;
  return {
    animation: !still.matches && !element.dataset.drawn && !element.closest("[data-refreshed]"),
    animationDuration: 500,
    grid: { left: 6, right: 8, top: 30, bottom: 4, containLabel: true },
    tooltip: {
      trigger: "axis",
      confine: true,
      axisPointer: { type: "line", lineStyle: { color: colours.soft } },
      backgroundColor: colours.card,
      borderColor: colours.line,
      textStyle: { color: colours.ink, fontFamily: font, fontSize: 13 },
      formatter: (rows) => tip(rows, spec, number),
    },
    xAxis: {
      type: "category",
      data: spec.times,
      axisTick: { show: false },
      axisLine: { onZero: true, lineStyle: { color: colours.soft } },
      axisLabel: { ...label, interval: every ? (index) => index % every === 0 : "auto", hideOverlap: true },
    },
    yAxis: {
      type: "value",
      name: spec.unit,
      nameTextStyle: { ...label, align: "left" },
      scale: Boolean(spec.scale),
      splitLine: { lineStyle: { color: colours["line-soft"] } },
      axisLabel: { ...label, formatter: (value) => short.format(mirrored ? Math.abs(value) : value) },
    },
    series: spec.series.map((series) => {
      const colour = mixed(colours[series.colour], series.light);
      return {
        name: series.name,
        type: series.line ? "line" : "bar",
        stack: series.stack,
        data: series.values,
        barCategoryGap: spec.slots > 31 ? "12%" : "35%",
        barMaxWidth: 48,
        step: series.line ? "middle" : undefined,
        symbol: "none",
        itemStyle: { color: colour },
        lineStyle: { color: colour, width: series.dashed ? 1.5 : 2.5, type: series.dashed ? "dashed" : "solid" },
        emphasis: { disabled: true },
      };
    }),
  };
}

function draw(figure) {
  const element = figure.querySelector(".canvas");
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const chart = window.echarts.init(element);
  chart.setOption(option(spec, element));
  element.dataset.drawn = "yes";
  charts.add({ chart, element, spec });
}

/** Lets go of charts whose part of the page was fetched again. */
function forget() {
  for (const entry of charts) {
    if (entry.element.isConnected) continue;
    entry.chart.dispose();
    charts.delete(entry);
  }
}

function again() {
  forget();
  for (const entry of charts) {
    entry.chart.resize();
    entry.chart.setOption(option(entry.spec, entry.element), true);
  }
}

export function drawCharts(root) {
  forget();
  for (const figure of root.querySelectorAll("[data-chart]")) {
    if (!figure.querySelector("[data-drawn]")) draw(figure);
  }
}

let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(again, 120);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

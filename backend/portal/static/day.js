"use strict";
// Draws the pictures of the day page and makes its tables sortable. It adds no number that is not
// in the page already.
(() => {
  document.documentElement.classList.add("js");
  const day = JSON.parse(document.getElementById("day-data").textContent);
  const escape = echarts.format.encodeHTML; // names are other people's text and tooltips are HTML
  const several = day.periods.length > 1;
  const minutes = day.periods[0].interval_minutes;
  const cent = document.getElementById("main").dataset.cent;
  // Beyond this many households a ring of ribbons is a knot and the grid says more.
  const RIBBONS_LIMIT = 40;

  const kwh = (wh, places = 3) => grouped((wh / 1000).toFixed(places));
  const money = (nano, places = 4) => `${grouped((nano / 1e9).toFixed(places))} ${day.currency}`;
  const cents = (nanoPerWh) => (nanoPerWh / 10000).toFixed(2);
  const grouped = (text) => text.replace(/\B(?=(\d{3})+(?=\.))/g, "\u202f").replace("-", "\u2212");
  const narrow = (element) => element.clientWidth < 560;

  const { fontFamily } = getComputedStyle(document.body);

  /** The page's colours as they are now; charts cannot read style sheets themselves. */
  function palette() {
    const style = getComputedStyle(document.documentElement);
    const names = [
      "inside",
      "import",
      "export",
      "dso",
      "fund",
      "page",
      "panel",
      "ink",
      "soft",
      "line",
      "line-soft",
    ];
    return Object.fromEntries(
      names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
  }

  // --- charts: each is a function of the colours and its element's width, so that it can be drawn
  // again for either

  const charts = new Map();

  function mount(id, option, settle) {
    const element = document.getElementById(id);
    if (!element) return null;
    if (settle) settle(element);
    const chart = echarts.init(element, null, { renderer: "svg" });
    charts.set(id, { chart, element, option, settle, wasNarrow: narrow(element) });
    chart.setOption(option(palette(), element));
    return chart;
  }

  function redraw() {
    for (const entry of charts.values()) {
      const zoom = (entry.chart.getOption().dataZoom || []).map(({ start, end }) => ({
        start,
        end,
      }));
      if (entry.settle) entry.settle(entry.element);
      entry.chart.resize();
      entry.chart.setOption(entry.option(palette(), entry.element), true);
      if (zoom.length) entry.chart.setOption({ dataZoom: zoom });
    }
  }

  const common = (colours) => ({
    animation: false, // a page may be printed or photographed at any moment
    textStyle: { fontFamily, color: colours.ink },
  });

  const tooltip = (colours) => ({
    confine: true,
    backgroundColor: colours.page,
    borderColor: colours.line,
    textStyle: { color: colours.ink },
    extraCssText: "box-shadow: 0 2px 10px rgb(0 0 0 / .15)",
  });

  const tip = (title, rows) =>
    `<div class="tip"><b>${escape(title)}</b><table>${rows
      .map(([label, value]) => `<tr><td>${escape(label)}</td><td>${escape(value)}</td></tr>`)
      .join("")}</table></div>`;

  const starts = day.intervals.map((interval) => Date.parse(interval.start));
  const finish = starts[starts.length - 1] + minutes * 60000;
  // A step holds until the next point, so the last interval needs a point at its end.
  const steps = (value) => [
    ...day.intervals.map((interval, index) => [starts[index], value(interval)]),
    [finish, value(day.intervals[day.intervals.length - 1])],
  ];

  function intervalOf(params) {
    return day.intervals[Math.min(params[0].dataIndex, day.intervals.length - 1)];
  }

  function intervalTitle(interval) {
    const start = Date.parse(interval.start);
    const clock = (time) => new Date(time).toISOString().slice(11, 16);
    const date = several ? `${interval.start.slice(0, 10)}, ` : "";
    return `${date}${clock(start)}\u2013${clock(start + minutes * 60000)} UTC`;
  }

  const timeAxis = (colours) => ({
    type: "time",
    min: starts[0],
    max: finish,
    axisLine: { onZero: false, lineStyle: { color: colours.line } },
    axisTick: { lineStyle: { color: colours.line } },
    axisLabel: {
      color: colours.soft,
      hideOverlap: true,
      formatter: {
        day: several ? "{d} {MMM}" : "{HH}:{mm}",
        month: "{d} {MMM}",
        year: "{d} {MMM}",
        hour: "{HH}:{mm}",
      },
    },
    splitLine: { show: false },
  });

  const valueAxis = (colours, name, extra) => ({
    type: "value",
    name,
    nameLocation: "end",
    nameTextStyle: { color: colours.soft, align: "left", padding: [0, 0, 4, 0] },
    nameGap: 12,
    axisLabel: { color: colours.soft },
    splitLine: { lineStyle: { color: colours["line-soft"] } },
    ...extra,
  });

  // A slider only: zooming inside the chart would take the finger that scrolls the page.
  const zoom = (colours) =>
    several
      ? [
          {
            type: "slider",
            bottom: 6,
            height: 24,
            borderColor: colours.line,
            backgroundColor: "transparent",
            fillerColor: `${colours.soft}22`,
            handleStyle: { color: colours.page, borderColor: colours.soft },
            moveHandleStyle: { color: colours.line },
            dataBackground: {
              lineStyle: { color: colours.line },
              areaStyle: { color: colours.line, opacity: 0.4 },
            },
            selectedDataBackground: {
              lineStyle: { color: colours.soft },
              areaStyle: { color: colours.line },
            },
            showDetail: false,
          },
        ]
      : [];

  const grid = (extra) => ({ left: 44, right: 14, top: 30, bottom: several ? 62 : 30, ...extra });
  const pointer = (colours) => ({
    type: "line",
    lineStyle: { color: colours.soft, type: "solid", width: 1 },
  });

  function dayOption(colours) {
    const area = (name, value, stack, colour) => ({
      name,
      type: "line",
      step: "end",
      stack,
      symbol: "none",
      lineStyle: { width: 1, color: colour }, // closes the seam between two areas
      areaStyle: { color: colour, opacity: 1 },
      emphasis: { disabled: true },
      data: steps(value),
    });
    const outline = (name, value) => ({
      name,
      type: "line",
      step: "end",
      symbol: "none",
      lineStyle: { width: several ? 0.8 : 1.4, color: colours.ink },
      emphasis: { disabled: true },
      z: 4,
      data: steps(value),
    });
    const side = (text, place) => ({
      type: "text",
      silent: true,
      left: 50,
      z: 5,
      style: {
        text,
        fill: colours.soft,
        stroke: colours.page,
        lineWidth: 3,
        font: `12px ${fontFamily}`,
      },
      ...place,
    });
    return {
      ...common(colours),
      graphic: [
        ...(day.totals.demand_wh ? [side("drawn from the grid", { top: 36 })] : []),
        ...(day.totals.supply_wh ? [side("fed into the grid", { bottom: several ? 68 : 36 })] : []),
      ],
      useUTC: true,
      grid: grid(),
      xAxis: timeAxis(colours),
      yAxis: valueAxis(colours, `kWh per ${minutes} min`, {
        axisLabel: { color: colours.soft, formatter: (value) => String(Math.abs(value)) },
      }),
      dataZoom: zoom(colours),
      tooltip: {
        ...tooltip(colours),
        trigger: "axis",
        axisPointer: pointer(colours),
        formatter: (params) => {
          const at = intervalOf(params);
          return tip(intervalTitle(at), [
            ["Demand", `${kwh(at.demand_wh)} kWh`],
            ["\u2003traded inside", `${kwh(at.traded_wh)} kWh`],
            ["\u2003imported", `${kwh(at.imported_wh)} kWh`],
            ["Supply", `${kwh(at.supply_wh)} kWh`],
            ["\u2003traded inside", `${kwh(at.traded_wh)} kWh`],
            ["\u2003exported", `${kwh(at.exported_wh)} kWh`],
          ]);
        },
      },
      series: [
        area("traded inside, bought", (at) => at.traded_wh / 1000, "up", colours.inside),
        area("imported", (at) => at.imported_wh / 1000, "up", colours.import),
        area("traded inside, sold", (at) => -at.traded_wh / 1000, "down", colours.inside),
        area("exported", (at) => -at.exported_wh / 1000, "down", colours.export),
        outline("demand", (at) => at.demand_wh / 1000),
        {
          ...outline("supply", (at) => -at.supply_wh / 1000),
          markLine: {
            silent: true,
            symbol: "none",
            animation: false,
            label: { show: false },
            lineStyle: { color: colours.ink, width: 1, type: "solid" },
            data: [{ yAxis: 0 }],
          },
        },
      ],
    };
  }

  function pricesOption(colours) {
    const line = (name, field, style) => ({
      name,
      type: "line",
      step: "end",
      symbol: "none",
      lineStyle: { width: 2, ...style },
      emphasis: { disabled: true },
      data: steps((at) => at[field] / 10000),
    });
    // The area between two prices: an invisible line and, stacked on it, the difference.
    const between = (stack, low, high) => [
      {
        ...line(`${stack} from`, low, { width: 0 }),
        stack,
        stackStrategy: "all",
      },
      {
        ...line(stack, high, { width: 0 }),
        stack,
        stackStrategy: "all",
        areaStyle: { color: colours.inside, opacity: 0.2 },
        data: steps((at) => (at[high] - at[low]) / 10000),
      },
    ];
    const retail = "outside_import_price_nano_per_wh";
    const feedIn = "outside_export_price_nano_per_wh";
    const buy = "buy_price_nano_per_wh";
    const sell = "sell_price_nano_per_wh";
    return {
      ...common(colours),
      useUTC: true,
      grid: grid(),
      xAxis: timeAxis(colours),
      yAxis: valueAxis(colours, `${cent}/kWh`, {}),
      dataZoom: zoom(colours),
      tooltip: {
        ...tooltip(colours),
        trigger: "axis",
        axisPointer: pointer(colours),
        formatter: (params) => {
          const at = intervalOf(params);
          return tip(intervalTitle(at), [
            ["Retail outside", `${cents(at[retail])} ${cent}/kWh`],
            ["Members buy at", `${cents(at[buy])} ${cent}/kWh`],
            ["Members sell at", `${cents(at[sell])} ${cent}/kWh`],
            ["Feed-in outside", `${cents(at[feedIn])} ${cent}/kWh`],
            ["Saved in the interval", money(at.savings_nano)],
          ]);
        },
      },
      series: [
        ...between("buyers gain", buy, retail),
        ...between("sellers gain", feedIn, sell),
        line("retail outside", retail, { color: colours.import }),
        line("feed-in outside", feedIn, { color: colours.export }),
        line("buy", buy, { color: colours.inside, width: 2.5 }),
        line("sell", sell, { color: colours.inside, width: 2.5, type: [6, 4] }),
      ],
    };
  }

  // --- who traded with whom

  const zoneOf = new Map(day.households.map((house) => [house.name, house.zone]));
  const zoneRank = new Map(day.community.zones.map((zone, index) => [zone, index]));
  const sold = new Map();
  const bought = new Map();
  const fees = new Map();
  for (const trade of day.trades) {
    sold.set(trade.seller, (sold.get(trade.seller) || 0) + trade.energy_wh);
    bought.set(trade.buyer, (bought.get(trade.buyer) || 0) + trade.energy_wh);
    for (const end of [trade.seller, trade.buyer])
      fees.set(end, (fees.get(end) || 0) + trade.fee_nano);
  }
  // Neighbours in the network stand together, in the households' own order.
  const traders = day.households
    .map((house) => house.name)
    .filter((name) => sold.has(name) || bought.has(name))
    .sort(
      (one, other) => (zoneRank.get(zoneOf.get(one)) ?? 0) - (zoneRank.get(zoneOf.get(other)) ?? 0),
    );
  const sellers = traders.filter((name) => sold.has(name));
  const buyers = traders.filter((name) => bought.has(name));
  let tradesView = traders.length <= RIBBONS_LIMIT ? "chord" : "matrix";

  const tradeTip = (trade) =>
    tip(`${trade.seller} to ${trade.buyer}`, [
      ["Energy", `${kwh(trade.energy_wh)} kWh`],
      ["Network fee", money(trade.fee_nano)],
    ]);

  const traderTip = (name) =>
    tip(`${name}, ${zoneOf.get(name)}`, [
      ["Sold inside", `${kwh(sold.get(name) || 0)} kWh`],
      ["Bought inside", `${kwh(bought.get(name) || 0)} kWh`],
      ["Network fees of its trades", money(fees.get(name) || 0)],
    ]);

  const labelSpace = (element) => (narrow(element) ? 66 : 130);
  const ringRadius = (element) =>
    Math.max(90, Math.min(element.clientWidth / 2 - labelSpace(element), 290));

  function chordOption(colours, element) {
    const small = narrow(element);
    const crowded = traders.length > RIBBONS_LIMIT;
    const radius = ringRadius(element);
    return {
      ...common(colours),
      tooltip: {
        ...tooltip(colours),
        formatter: (params) =>
          params.dataType === "edge"
            ? tradeTip(day.trades[params.dataIndex])
            : traderTip(traders[params.dataIndex]),
      },
      series: [
        {
          type: "chord",
          radius: [radius - (small ? 9 : 13), radius],
          padAngle: crowded ? 0.6 : 1.6,
          minAngle: crowded ? 0.4 : 1.2,
          label: {
            color: colours.ink,
            fontSize: small || crowded ? 10 : 12,
            distance: 6,
            width: labelSpace(element) - 8,
            overflow: "truncate",
          },
          labelLayout: { hideOverlap: crowded },
          itemStyle: { borderRadius: 0, borderColor: colours.inside, borderWidth: 1 },
          lineStyle: { color: "source", opacity: crowded ? 0.25 : 0.4 },
          emphasis: { focus: "adjacency", lineStyle: { opacity: 0.75 } },
          blur: { lineStyle: { opacity: 0.04 }, itemStyle: { opacity: 0.25 } },
          data: traders.map((name) => ({
            name,
            itemStyle: { color: sold.has(name) ? colours.inside : colours.page },
          })),
          links: day.trades.map((trade) => ({
            source: trade.seller,
            target: trade.buyer,
            value: trade.energy_wh,
          })),
        },
      ],
    };
  }

  // On a narrow page there is room downwards only: the longer list goes there.
  const isTurned = (element) => narrow(element) && buyers.length > sellers.length;

  function matrixOption(colours, element) {
    const turned = isTurned(element);
    const [across, down] = turned ? [sellers, buyers] : [buyers, sellers];
    const place = (names) => new Map(names.map((name, index) => [name, index]));
    const [column, row] = [place(across), place(down)];
    const largest = Math.max(1, ...day.trades.map((trade) => trade.energy_wh));
    const axis = (names, name, extra) => ({
      type: "category",
      data: names,
      name,
      nameTextStyle: { color: colours.soft },
      axisLine: { lineStyle: { color: colours.line } },
      axisTick: { show: false },
      splitArea: { show: false },
      ...extra,
    });
    const pitch = (element.clientWidth - 100) / across.length;
    const crowded = pitch < 12;
    const named = {
      color: colours.soft,
      fontSize: crowded || narrow(element) ? 9 : 11,
      width: 80,
      overflow: "truncate",
    };
    return {
      ...common(colours),
      grid: { left: 12, right: 12, top: 12, bottom: 4, containLabel: true },
      tooltip: {
        ...tooltip(colours),
        formatter: (params) => tradeTip(day.trades[params.dataIndex]),
      },
      xAxis: axis(across, "", {
        position: "top",
        axisLabel: {
          rotate: 90,
          interval: Math.ceil(11 / pitch) - 1,
          ...named,
        },
      }),
      yAxis: axis(down, "", {
        inverse: true,
        axisLabel: { interval: 0, ...named },
      }),
      // The square root keeps small trades visible beside the largest.
      visualMap: {
        show: false,
        dimension: 2,
        min: 0,
        max: Math.sqrt(largest),
        inRange: { color: [colours["line-soft"], colours.inside] },
      },
      series: [
        {
          type: "heatmap",
          itemStyle: { borderColor: colours.page, borderWidth: crowded ? 0.5 : 1 },
          emphasis: { itemStyle: { borderColor: colours.ink, borderWidth: 1.5 } },
          data: day.trades.map((trade) =>
            turned
              ? [column.get(trade.seller), row.get(trade.buyer), Math.sqrt(trade.energy_wh)]
              : [column.get(trade.buyer), row.get(trade.seller), Math.sqrt(trade.energy_wh)],
          ),
        },
      ],
    };
  }

  function settleTrades(element) {
    const caption = document.getElementById("trades-cap");
    caption.textContent = caption.dataset[tradesView];
    if (tradesView === "chord") {
      element.style.height = `${2 * ringRadius(element) + 56}px`;
      return;
    }
    const turned = isTurned(element);
    if (turned) caption.textContent = caption.dataset.turned;
    const rows = turned ? buyers.length : sellers.length;
    element.style.height = `${110 + rows * (rows > 60 ? 12 : rows > 25 ? 16 : 24)}px`;
  }

  // --- between zones: the best connected in the middle, the others around it in the order they
  // are reached

  function zonePlaces() {
    const neighbours = new Map();
    for (const { from, to } of day.zone_flows) {
      for (const [one, other] of [
        [from, to],
        [to, from],
      ]) {
        if (!neighbours.has(one)) neighbours.set(one, new Set());
        neighbours.get(one).add(other);
      }
    }
    const degree = (zone) => neighbours.get(zone).size;
    const rank = (zone) => zoneRank.get(zone) ?? zoneRank.size;
    const names = [...neighbours.keys()];
    const places = new Map();
    const weight = new Map();
    const parts = [];
    for (const name of [...names].sort((one, other) => degree(other) - degree(one))) {
      if (weight.has(name)) continue;
      // A breadth-first tree from the best connected zone not yet placed; a leaf takes one share of
      // the circle.
      const children = new Map([[name, []]]);
      const order = [name];
      for (const zone of order) {
        for (const next of [...neighbours.get(zone)].sort(
          (one, other) => rank(one) - rank(other),
        )) {
          if (!children.has(next)) {
            children.set(next, []);
            children.get(zone).push(next);
            order.push(next);
          }
        }
      }
      for (const zone of order.reverse()) {
        const below = children.get(zone).reduce((sum, child) => sum + weight.get(child), 0);
        weight.set(zone, Math.max(1, below));
      }
      parts.push({ root: name, children });
    }
    parts.forEach(({ root, children }, index) => {
      const spread = (zone, depth, from, to) => {
        const angle = (from + to) / 2;
        const offset = index * 4;
        places.set(zone, [offset + depth * Math.cos(angle), depth * Math.sin(angle)]);
        let start = from;
        for (const child of children.get(zone)) {
          const end = start + ((to - from) * weight.get(child)) / weight.get(zone);
          spread(child, depth + 1, start, end);
          start = end;
        }
      };
      // Two arms lie left and right, three have one on top.
      const turn =
        children.get(root).length === 2
          ? -Math.PI / 2
          : -Math.PI / 2 - Math.PI / children.get(root).length;
      spread(root, 0, turn, turn + 2 * Math.PI);
    });
    return places;
  }

  /** The places fitted to pixels: a chart that had to stretch them would stretch symbols too. */
  function spreadOut(places, width, height) {
    const fit = (axis, size) => {
      const values = [...places.values()].map((place) => place[axis]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return (value) => (high - low < 1e-9 ? size / 2 : ((value - low) / (high - low)) * size);
    };
    const [x, y] = [fit(0, width), fit(1, height)];
    return new Map([...places].map(([zone, place]) => [zone, [x(place[0]), y(place[1])]]));
  }

  function zonesOption(colours, element) {
    const small = narrow(element);
    const [side, top] = [small ? 44 : 110, 44];
    const places = spreadOut(
      zonePlaces(),
      element.clientWidth - 2 * side,
      element.clientHeight - 2 * top,
    );
    const largest = Math.max(1, ...day.zone_flows.map((flow) => flow.energy_wh));
    const many = places.size > (small ? 6 : 9);
    const curveness = 0.17;
    // A flow's number stands on the outer side of its bend, where the opposite flow's arrow is not.
    const beside = (flow) => {
      const [[x1, y1], [x2, y2]] = [places.get(flow.from), places.get(flow.to)];
      const [bendX, bendY] = [(y2 - y1) * curveness, (x1 - x2) * curveness];
      return Math.abs(bendX) > Math.abs(bendY)
        ? { align: bendX > 0 ? "left" : "right", padding: [0, 9] }
        : { verticalAlign: bendY > 0 ? "top" : "bottom", padding: [8, 0] };
    };
    return {
      ...common(colours),
      tooltip: {
        ...tooltip(colours),
        formatter: (params) => {
          if (params.dataType === "edge") {
            const flow = day.zone_flows[params.dataIndex];
            return tip(`${flow.from} to ${flow.to}`, [["Energy", `${kwh(flow.energy_wh)} kWh`]]);
          }
          const sum = (end) =>
            day.zone_flows
              .filter((flow) => flow[end] === params.name)
              .reduce((all, flow) => all + flow.energy_wh, 0);
          return tip(params.name, [
            ["Out", `${kwh(sum("from"))} kWh`],
            ["In", `${kwh(sum("to"))} kWh`],
          ]);
        },
      },
      series: [
        {
          type: "graph",
          layout: "none",
          left: side,
          right: side,
          top,
          bottom: top,
          symbol: "circle",
          symbolSize: many ? 12 : 22,
          itemStyle: { color: colours.page, borderColor: colours.ink, borderWidth: 1.5 },
          label: {
            show: true,
            distance: 6,
            color: colours.ink,
            fontSize: small || many ? 11 : 13,
            fontWeight: 600,
            textBorderColor: colours.page,
            textBorderWidth: 3,
            formatter: (params) => params.name,
          },
          edgeSymbol: ["none", "arrow"],
          edgeLabel: {
            show: !many,
            color: colours.ink,
            fontSize: small ? 10 : 12,
            rotate: 0,
            textBorderColor: colours.page,
            textBorderWidth: 4,
            formatter: (params) => `${kwh(params.value, 1)} kWh`,
          },
          emphasis: { focus: "adjacency" },
          // A name stands outside, away from the arrows.
          data: [...places].map(([name, [x, y]]) => ({
            name,
            x,
            y,
            label: { position: y < (element.clientHeight - 2 * top) * 0.4 ? "top" : "bottom" },
          })),
          links: day.zone_flows.map((flow) => ({
            source: flow.from,
            target: flow.to,
            value: flow.energy_wh,
            label: beside(flow),
            symbolSize: [0, 9 + (9 * flow.energy_wh) / largest],
            lineStyle: {
              color: colours.inside,
              opacity: 1,
              curveness,
              width: 1.2 + (8 * flow.energy_wh) / largest,
            },
          })),
        },
      ],
    };
  }

  // --- tables

  function makeSortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const value = (row, column) => {
      const cell = row.cells[column];
      if ("value" in cell.dataset) return Number(cell.dataset.value);
      return cell.dataset.text ?? cell.textContent.trim();
    };
    const compare = (one, other) =>
      typeof one === "number" && typeof other === "number"
        ? one - other
        : String(one).localeCompare(String(other), "en", { numeric: true });
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        // Numbers are asked for largest first, names from A; a second click turns it round.
        const first = heading.classList.contains("num") ? "descending" : "ascending";
        const second = first === "descending" ? "ascending" : "descending";
        const order = heading.getAttribute("aria-sort") === first ? second : first;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...original].sort(
          (one, other) => sign * compare(value(one, column), value(other, column)),
        );
        body.append(...rows);
        document.getElementById("announce").textContent =
          `Sorted by ${button.textContent}, ${order}`;
      });
    });
  }

  document.querySelectorAll("table[data-sortable]").forEach(makeSortable);

  // --- put together

  const timeCharts = [mount("chart-day", dayOption), mount("chart-prices", pricesOption)];
  echarts.connect(timeCharts);
  mount(
    "chart-trades",
    (colours, element) =>
      tradesView === "chord" ? chordOption(colours, element) : matrixOption(colours, element),
    settleTrades,
  );
  mount("chart-zones", zonesOption);

  const views = document.getElementById("trades-views");
  if (views) {
    const buttons = [...views.querySelectorAll("button")];
    const show = () => {
      for (const button of buttons)
        button.setAttribute("aria-pressed", String(button.dataset.view === tradesView));
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        tradesView = button.dataset.view;
        show();
        redraw();
      });
    }
    show();
    views.hidden = false;
  }

  const showDay = document.getElementById("show-day");
  if (showDay) {
    const counts = day.periods.map(
      (period) => period.interval_count || 1440 / period.interval_minutes,
    );
    showDay.addEventListener("change", () => {
      const chosen = showDay.value === "" ? null : Number(showDay.value);
      const first =
        chosen === null ? 0 : counts.slice(0, chosen).reduce((sum, count) => sum + count, 0);
      const last = chosen === null ? starts.length : first + counts[chosen];
      // Connected charts follow each other, so one of them is told.
      timeCharts[0].dispatchAction({
        type: "dataZoom",
        startValue: starts[first],
        endValue: last < starts.length ? starts[last] : finish,
      });
    });
  }

  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => {
    // A phone's address bar changes the height all the time; only the width matters.
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "light";
    redraw();
  });
  window.addEventListener("afterprint", () => {
    delete document.documentElement.dataset.theme;
    redraw();
  });
})();

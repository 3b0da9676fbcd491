"use strict";
/*
 * The rows are drawn as they come into view: there may be ten thousand. Nothing here makes an
 * element out of a string; what others wrote (URLs, tags, headers, errors) is only ever text.
 * Times are in milliseconds since the block was opened.
 */
(() => {
  const PHASES = ["queued", "blocked", "resolving", "connecting", "tls", "sending", "waiting",
    "receiving", "pausing"];
  const MORE_ROWS = 8; // above and below those in view
  const PRINTED = 1000;
  const SUBLANES = 6;
  const byId = (id) => document.getElementById(id);

  /** An element; `given` are its properties, or with a dash its attributes. */
  function make(name, given = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(given)) {
      if (value === null || value === undefined) continue;
      if (key.includes("-") || key === "role") element.setAttribute(key, value);
      else element[key] = value;
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // What is looked up by others' words has no prototype, whose names they might be.
  const KINDS = {
    __proto__: null,
    "2xx": "2xx", "3xx": "3xx", "4xx": "4xx", "5xx": "5xx", done: "Other", failed: "Failed",
    cancelled: "Cancelled", running: "Running", queued: "Queued",
  };

  // ---- The data -------------------------------------------------------------------------------

  const data = JSON.parse(byId("data").textContent);
  const now = data.now;
  const rows = read();

  function read() {
    const { strings, columns } = data;
    const text = (name, i) => strings[columns[name][i]];
    return columns.id.map((id, i) => {
      const numbers = columns.phases[i];
      const phases = [];
      for (let at = 0; at < numbers.length; at += 3) {
        const end = numbers[at + 2] === null ? now : numbers[at + 2];
        phases.push({ name: strings[numbers[at]], start: numbers[at + 1], end });
      }
      const url = text("url", i);
      const parts = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#]*@)?([^/?#]*)(.*)$/is.exec(url);
      const left = phases.find((phase) => phase.name !== "queued");
      const row = {
        number: i, id, url, phases,
        host: text("host", i),
        authority: parts ? parts[1] : "",
        path: parts ? parts[2] || "/" : url,
        method: text("method", i), tag: text("tag", i), state: text("state", i),
        status: columns.status[i], reason: text("reason", i), type: text("type", i),
        size: columns.size[i], reused: columns.reused[i],
        worker: text("worker", i), connection: text("connection", i),
        start: columns.start[i], end: columns.end[i],
        error: { type: strings[columns.error[i][0]], message: strings[columns.error[i][1]] },
        exchanges: columns.exchanges[i],
      };
      row.until = row.end === null ? now : row.end;
      row.begin = left ? left.start : null; // when its turn came
      row.time = row.begin === null ? null : row.until - row.begin;
      row.kind = kindOf(row);
      row.outcome = outcomeOf(row);
      return row;
    });
  }

  function exchange(numbers) {
    const { strings, headers } = data;
    const pairs = (number) => {
      const list = [];
      const flat = headers[number] || [];
      for (let at = 0; at < flat.length; at += 2) {
        list.push([strings[flat[at]], strings[flat[at + 1]]]);
      }
      return list;
    };
    const [method, url, status, reason, why, start, end, size, connection, reused, version,
      sent, received, type, message] = numbers;
    return {
      method: strings[method], url: strings[url], status, reason: strings[reason],
      why: strings[why], start, end, size, connection: strings[connection], reused,
      version: strings[version], sent: pairs(sent), received: pairs(received),
      error: { type: strings[type], message: strings[message] },
    };
  }

  function kindOf(row) {
    if (row.state !== "done") return row.state in KINDS ? row.state : "running";
    const hundreds = `${Math.floor(row.status / 100)}xx`;
    return hundreds in KINDS ? hundreds : "done";
  }

  function outcomeOf(row) {
    if (row.state === "failed") return row.error.type || "Failed";
    if (row.state === "done") return [row.status, row.reason].filter(Boolean).join(" ");
    return KINDS[row.kind];
  }

  // ---- Words ----------------------------------------------------------------------------------

  const count = (number) => number.toLocaleString("en");
  const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

  function duration(ms) {
    if (ms === null) return "";
    if (ms < 0.995) return `${ms.toFixed(2)} ms`;
    if (ms < 9.95) return `${ms.toFixed(1)} ms`;
    if (ms < 999.5) return `${ms.toFixed(0)} ms`;
    if (ms < 9995) return `${(ms / 1000).toFixed(2)} s`;
    if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
    const seconds = Math.round(ms / 1000);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    const minutes = Math.round(seconds / 60);
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  /** A time on the axis: as exact as the distance of its ticks asks. */
  function tickLabel(ms, step) {
    const digits = (unit) => Math.max(0, Math.min(3, -Math.floor(Math.log10(step / unit) + 1e-9)));
    if (ms === 0) return "0";
    if (step < 1000 && ms < 1000) return `${ms.toFixed(digits(1))} ms`;
    if (ms < 60000 || step < 1000) return `${(ms / 1000).toFixed(digits(1000))} s`;
    const seconds = Math.round(ms / 1000);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor(seconds / 60) % 60;
    if (hours) return `${hours}:${two(minutes)}${seconds % 60 ? `:${two(seconds % 60)}` : ""} h`;
    return seconds % 60 ? `${minutes}:${two(seconds % 60)} min` : `${minutes} min`;
  }

  function size(bytes) {
    if (bytes === null) return "";
    if (bytes < 1000) return `${bytes} B`;
    let value = bytes;
    for (const unit of ["kB", "MB", "GB"]) {
      value /= 1000;
      if (value < 999.5) return `${value.toFixed(value < 99.95 ? 1 : 0)} ${unit}`;
    }
    return `${(value / 1000).toFixed(1)} TB`;
  }

  /** What a cell can show at most, and a little more. */
  const clip = (text) => (text.length > 400 ? `${text.slice(0, 400)}\u2026` : text);
  const phaseName = (name) => (name === "tls" ? "TLS" : name);
  const phaseClass = (name) => `p-${PHASES.includes(name) ? name : "other"}`;

  /** Phases of one name together, in the order in which they came first. */
  function sums(row) {
    const found = new Map();
    for (const { name, start, end } of row.phases) {
      found.set(name, (found.get(name) || 0) + end - start);
    }
    return [...found];
  }

  const spoken = (row) => [
    row.begin === null ? "never had its turn" : `began at ${duration(row.begin)}`,
    row.time === null ? null : `${row.end === null ? "so far" : "took"} ${duration(row.time)}`,
    ...sums(row).map(([name, ms]) => `${phaseName(name)} ${duration(ms)}`),
  ].filter(Boolean).join(", ");

  const WHY = { __proto__: null, redirect: "redirect", retry: "retry", auth: "sign-in" };

  function detours(row) {
    const counts = new Map();
    for (const numbers of row.exchanges) {
      const why = data.strings[numbers[4]];
      if (why) counts.set(why, (counts.get(why) || 0) + 1);
    }
    const many = { __proto__: null, redirect: "redirects", retry: "retries", auth: "sign-ins" };
    const signs = { __proto__: null, redirect: "\u2192", retry: "\u21bb", auth: "auth " };
    return [...counts].map(([why, n]) => make("span", {
      className: "badge", role: "img", title: plural(n, WHY[why] || why, many[why] || why),
      "aria-label": plural(n, WHY[why] || why, many[why] || why),
    }, `${signs[why] || "+"}${n}`));
  }

  // ---- What is shown --------------------------------------------------------------------------

  const LAST = Symbol("after all others"); // in whichever direction
  const KIND_NAMES = Object.keys(KINDS);
  const SORTS = {
    order: ["Order", (row) => row.id],
    start: ["Start", (row) => row.begin ?? LAST],
    end: ["End", (row) => row.end ?? LAST],
    duration: ["Time", (row) => row.time ?? LAST],
    method: ["Method", (row) => row.method],
    status: ["Status", (row) => `${KIND_NAMES.indexOf(row.kind)} ${row.outcome}`],
    host: ["URL", (row) => `${row.authority}\0${row.path}`],
    type: ["Type", (row) => row.type ?? LAST],
    size: ["Size", (row) => row.size ?? LAST],
    worker: ["Worker", (row) => row.worker ?? LAST],
  };
  const natural = new Intl.Collator("en", { numeric: true });

  const view = {
    mode: "requests",
    sort: "order",
    descending: false,
    words: "",
    kinds: new Set(),
    from: 0,
    to: Math.max(now, 0.1),
    shown: rows,
    matching: null, // numbers of the rows that the filter lets through; null: all
    lanes: [],
    at: -1, // the current position in what is listed
    item: -1, // and in its lane
    open: null, // the row whose details are shown
  };
  const whole = { from: 0, to: view.to };

  const FIELDS = {
    url: (row) => row.url, host: (row) => row.authority, method: (row) => row.method,
    tag: (row) => row.tag, worker: (row) => row.worker, type: (row) => row.type,
    connection: (row) => row.connection,
    status: (row) => row.outcome, state: (row) => row.state,
    error: (row) => (row.error.type ? `${row.error.type} ${row.error.message || ""}` : null),
  };

  function text(row) {
    if (row.text === undefined) {
      const all = Object.values(FIELDS).map((field) => field(row)).filter(Boolean);
      row.text = all.join("\n").toLowerCase();
    }
    return row.text;
  }

  /** Every word has to be there; `host:a` only in the host, `-a` nowhere. */
  function tests(words) {
    return words.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const not = word.length > 1 && word.startsWith("-");
      const rest = not ? word.slice(1) : word;
      const colon = rest.indexOf(":");
      const name = rest.slice(0, colon);
      const value = rest.slice(colon + 1);
      if (colon > 0 && Object.hasOwn(FIELDS, name)) {
        const field = FIELDS[name];
        return (row) => not !== (field(row) || "").toLowerCase().includes(value);
      }
      return (row) => not !== text(row).includes(rest);
    });
  }

  function select() {
    const all = tests(view.words);
    const { kinds } = view;
    const filtered = all.length > 0 || kinds.size > 0;
    const current = currentRow();
    let found = rows;
    if (filtered) {
      found = rows.filter((row) => (kinds.size === 0 || kinds.has(row.kind))
        && all.every((test) => test(row)));
    }
    view.matching = filtered ? new Set(found.map((row) => row.number)) : null;
    view.shown = sorted(found);
    if (view.mode !== "requests") view.lanes = makeLanes(view.mode);
    view.at = view.mode === "requests" && current ? view.shown.indexOf(current) : -1;
    view.item = -1;
    body.style.height = `calc(var(--row) * ${listed()})`;
    grid.setAttribute("aria-rowcount", listed() + 1);
    none.hidden = listed() > 0 && found.length > 0;
    none.textContent = rows.length ? "No request matches the filter." : "No requests were recorded.";
    byId("clear").hidden = !filtered;
    tell();
    repaint();
  }

  function sorted(found) {
    const key = SORTS[view.sort][1];
    const way = view.descending ? -1 : 1;
    const keyed = found.map((row) => [key(row), row]);
    keyed.sort(([a, one], [b, other]) => {
      if (a === b) return one.number - other.number;
      if (a === LAST) return 1;
      if (b === LAST) return -1;
      return way * (typeof a === "string" ? natural.compare(a, b) : a - b)
        || one.number - other.number;
    });
    return keyed.map(([, row]) => row);
  }

  function tell() {
    const all = plural(rows.length, "request");
    const shown = view.shown.length;
    const what = view.matching === null ? all : `${count(shown)} of ${all}`;
    const how = view.mode === "requests"
      ? `by ${SORTS[view.sort][0].toLowerCase()}, ${view.descending ? "descending" : "ascending"}`
      : `on ${plural(view.lanes.filter((lane) => lane.name).length, view.mode)}`;
    const range = zoomed() ? `, ${tickLabel(view.from, span() / 100)} to ${tickLabel(view.to, span() / 100)}` : "";
    const said = `${what} ${how.replace("by url", "by URL")}${range}`;
    if (byId("count").textContent !== said) byId("count").textContent = said;
  }

  const span = () => view.to - view.from;
  const zoomed = () => view.from > whole.from || view.to < whole.to;
  const listed = () => (view.mode === "requests" ? view.shown.length : view.lanes.length);

  function currentRow() {
    if (view.at < 0) return null;
    if (view.mode === "requests") return view.shown[view.at] || null;
    const lane = view.lanes[view.at];
    return (lane && view.item >= 0 && lane.items[view.item].row) || null;
  }

  // ---- Lanes: what each worker, or each connection, did ---------------------------------------

  function makeLanes(mode) {
    const named = new Map();
    const put = (name, row, start, end) => {
      if (!named.has(name)) named.set(name, { name, items: [] });
      named.get(name).items.push({ row, start, end: Math.max(start, end), sub: 0 });
    };
    for (const row of rows) {
      if (mode === "worker") put(row.worker, row, row.begin ?? row.start, row.until);
      else if (row.exchanges.length === 0) put(null, row, row.begin ?? row.start, row.until);
      else {
        for (const numbers of row.exchanges) {
          put(data.strings[numbers[8]], row, numbers[5], numbers[6] ?? row.until);
        }
      }
    }
    const lanes = [...named.values()];
    for (const lane of lanes) {
      lane.items.sort((a, b) => a.start - b.start || a.row.number - b.row.number);
      lane.busy = 0;
      const ends = [];
      let reached = 0;
      for (const item of lane.items) {
        let sub = ends.findIndex((end) => end <= item.start + 0.011);
        if (sub < 0) sub = Math.min(ends.length, SUBLANES - 1);
        ends[sub] = item.end;
        item.sub = sub;
        lane.busy += Math.max(0, item.end - Math.max(item.start, reached));
        reached = Math.max(reached, item.end);
      }
      lane.subs = ends.length;
      lane.requests = new Set(lane.items.map((item) => item.row)).size;
    }
    return lanes.sort((a, b) => (a.name === null) - (b.name === null)
      || (mode === "worker" ? natural.compare(a.name, b.name) : a.items[0].start - b.items[0].start));
  }

  // ---- The grid -------------------------------------------------------------------------------

  const grid = byId("grid");
  const body = byId("body");
  const head = byId("columns");
  const none = byId("none");
  const tip = byId("tip");
  const details = byId("details");
  const COLUMNS = [
    ["order", "#", "number"], ["method", "Method", "method"], ["status", "Status", "status"],
    ["host", "URL", "url"], ["type", "Type", "type"], ["size", "Size", "size"],
    ["duration", "Time", "time"], ["start", "Waterfall", "track"],
  ];
  const axis = make("div", { className: "axis", "aria-hidden": "true" });
  let painted = new Map(); // position -> element
  let spare = [];
  let printing = false;
  let rowHeight = 28;
  let frame = 0;

  function makeHead() {
    const cells = [];
    if (view.mode === "requests") {
      for (const [key, name, kind] of COLUMNS) {
        const button = make("button", { type: "button" }, name);
        button.addEventListener("click", () => sortBy(key, view.sort === key && !view.descending));
        const cell = make("div", { role: "columnheader", className: `cell ${kind}` }, button);
        cell.dataset.sort = key;
        cells.push(cell);
      }
    } else {
      for (const [name, kind] of [[view.mode === "worker" ? "Worker" : "Connection", "lane"],
        ["Requests", "many"], ["Busy", "busy"], ["Waterfall", "track"]]) {
        cells.push(make("div", { role: "columnheader", className: `cell ${kind}` },
          make("span", {}, name)));
      }
    }
    const last = cells[cells.length - 1];
    last.setAttribute("aria-label", "Waterfall"); // also where there is no room for it
    last.append(axis);
    head.replaceChildren(...cells);
    grid.setAttribute("aria-colcount", cells.length);
    grid.setAttribute("aria-label", view.mode === "requests" ? "Requests" : `Requests by ${view.mode}`);
    grid.className = view.mode === "requests" ? "" : `lanes ${view.mode}`;
    showSort();
  }

  function sortBy(key, descending) {
    view.sort = key;
    view.descending = descending;
    showSort();
    select();
    keepInView();
  }

  function showSort() {
    for (const cell of head.children) {
      if (cell.dataset.sort === view.sort) {
        cell.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
      } else cell.removeAttribute("aria-sort");
    }
    byId("sort").value = view.sort;
    const word = view.descending ? "descending" : "ascending";
    byId("direction").className = word;
    byId("direction").setAttribute("aria-label", `Sorted ${word}: turn round`);
    byId("direction").title = `Sorted ${word}: turn round`;
  }

  function makeRow() {
    const cell = (kind, ...children) => make("div", { role: "gridcell", className: `cell ${kind}` },
      ...children);
    if (view.mode !== "requests") {
      return make("div", { role: "row", className: "row" }, cell("lane"), cell("many"),
        cell("busy"), cell("track", make("canvas", { "aria-hidden": "true" })));
    }
    return make("div", { role: "row", className: "row" }, cell("number"), cell("method"),
      cell("status", make("i", { className: "mark" }), make("span")),
      cell("url", make("span", { className: "host" }), make("span", { className: "path" }),
        make("span", { className: "badges" })),
      cell("type"), cell("size"), cell("time"), cell("track"));
  }

  function fillRow(element, position) {
    const row = view.shown[position];
    const [number, method, status, url, type, bytes, time, track] = element.children;
    element.className = `row k-${row.kind}`;
    number.textContent = row.id;
    method.textContent = clip(row.method);
    status.lastChild.textContent = clip(row.outcome);
    status.title = row.error.type ? clip(`${row.error.type}: ${row.error.message || ""}`) : "";
    url.children[0].textContent = clip(row.authority);
    url.children[1].textContent = clip(row.path);
    url.title = clip(row.url);
    const badges = detours(row);
    if (row.tag !== null) {
      badges.push(make("span", { className: "badge tag", title: clip(`Tag: ${row.tag}`) }, clip(row.tag)));
    }
    url.children[2].replaceChildren(...badges);
    type.textContent = clip((row.type || "").replace(/^.*\//s, ""));
    type.title = clip(row.type || "");
    bytes.textContent = size(row.size);
    time.textContent = duration(row.time);
    track.setAttribute("aria-label", spoken(row));
    track.replaceChildren(...bars(row));
  }

  const percent = (ms) => `${(100 * (ms - view.from)) / span()}%`;
  const wide = (ms) => `${(100 * ms) / span()}%`;

  function bars(row) {
    const parts = [];
    const waited = row.begin ?? row.until;
    if (row.start < view.to && waited > view.from && waited > row.start) {
      const line = make("i", { className: "line p-queued" });
      line.style.left = percent(row.start);
      line.style.width = wide(waited - row.start);
      parts.push(line);
    }
    if (row.begin !== null && row.begin <= view.to && row.until >= view.from) {
      const bar = make("i", { className: "bar" });
      bar.style.left = percent(row.begin);
      bar.style.width = wide(row.until - row.begin);
      const all = Math.max(row.until - row.begin, 1e-6);
      for (const { name, start, end } of row.phases) {
        if (name === "queued" && start < row.begin) continue;
        const part = make("i", { className: phaseClass(name) });
        part.style.left = `${(100 * (start - row.begin)) / all}%`;
        part.style.width = `${(100 * (end - start)) / all}%`;
        bar.append(part);
      }
      parts.push(bar);
    }
    if (row.kind !== "queued" && row.state !== "done"
      && row.until >= view.from && row.until <= view.to) {
      const cap = make("i", { className: "cap mark" });
      cap.style.left = percent(row.until);
      parts.push(cap);
    }
    return parts;
  }

  function fillLane(element, position) {
    const lane = view.lanes[position];
    const [name, many, busy, track] = element.children;
    element.className = "row";
    name.textContent = clip(laneName(lane));
    name.title = clip(laneName(lane));
    many.textContent = count(lane.requests);
    busy.textContent = lane.name === null ? "" : `${Math.round((100 * lane.busy) / whole.to)} %`;
    const chosen = position === view.at && view.item >= 0 ? lane.items[view.item].row : null;
    track.setAttribute("aria-label", chosen
      ? `Request ${chosen.id}, ${view.item + 1} of ${lane.items.length}: ${chosen.method} ${clip(chosen.url)}, ${clip(chosen.outcome)}, ${spoken(chosen)}`
      : plural(lane.requests, "request"));
    drawLane(track.firstChild, lane, position);
  }

  const laneName = (lane) => lane.name ?? (view.mode === "worker" ? "No worker" : "No connection");

  // Canvas knows no style sheet: the colours are read from it.
  let colours = null;

  function readColours() {
    const probe = make("i");
    document.body.append(probe);
    colours = Object.create(null);
    for (const name of [...PHASES, "other", "failed", "text", "surface", "muted", "accent"]) {
      probe.style.color = `var(--${name})`;
      colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  function drawLane(canvas, lane, position) {
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    const width = trackWidth;
    const height = rowHeight - 8;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    if (!pen) return;
    if (!colours) readColours();
    pen.scale(ratio, ratio);
    const x = (ms) => ((ms - view.from) / span()) * width;
    const each = height / Math.max(1, lane.subs);
    const drawnTo = [];
    lane.items.forEach((item, index) => {
      const left = Math.max(-2, x(item.start));
      const right = Math.min(width + 2, Math.max(x(item.end), left + 1.5));
      if (right < 0 || left > width) return;
      const { row } = item;
      const bad = row.state === "failed";
      const current = position === view.at && index === view.item;
      if (right <= (drawnTo[item.sub] ?? -1) + 0.25 && !bad && !current) return;
      drawnTo[item.sub] = right;
      const top = item.sub * each + 0.5;
      const high = Math.max(1.5, each - 1);
      pen.globalAlpha = view.matching === null || view.matching.has(row.number) ? 1 : 0.15;
      const gap = right - left > 4 ? 1 : 0;
      if (row.begin === null) { // it never left the line
        pen.fillStyle = colours.queued;
        pen.fillRect(left, top + high / 2 - 1, right - left, 2);
      } else if (right - left < 5) {
        pen.fillStyle = { failed: colours.failed, cancelled: colours.muted }[row.state]
          || colours.waiting;
        pen.fillRect(left, top, right - left, high);
      } else {
        if (row.state === "cancelled") pen.globalAlpha *= 0.4;
        for (const { name, start, end } of row.phases) {
          if (name === "queued") continue;
          const from = Math.max(left, x(Math.max(start, item.start)));
          const to = Math.min(right - gap, x(Math.min(end, item.end)));
          if (to <= from) continue;
          const waits = name === "blocked" || name === "pausing";
          pen.fillStyle = colours[name] || colours.other;
          pen.fillRect(from, waits ? top + high * 0.35 : top, to - from, waits ? high * 0.3 : high);
        }
        if (row.state === "cancelled") {
          pen.globalAlpha /= 0.4;
          pen.strokeStyle = colours.muted;
          pen.setLineDash([3, 2]);
          pen.strokeRect(left + 0.5, top + 0.5, right - left - 1 - gap, high - 1);
          pen.setLineDash([]);
        }
        if (bad) hatch(pen, left, top, right - left - gap, high);
      }
      if (bad) {
        pen.fillStyle = colours.failed;
        pen.fillRect(right - gap - 3, top, 3, high);
      }
      if (current) {
        pen.globalAlpha = 1;
        pen.strokeStyle = colours.text;
        pen.lineWidth = 2;
        pen.strokeRect(left + 1, top + 1, Math.max(3, right - left - 2), high - 2);
        pen.lineWidth = 1;
      }
    });
  }

  function hatch(pen, left, top, width, height) {
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width, height);
    pen.clip();
    pen.strokeStyle = colours.surface;
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let at = left - height; at < left + width; at += 6) {
      pen.moveTo(at, top + height);
      pen.lineTo(at + height, top);
    }
    pen.stroke();
    pen.restore();
  }

  function repaint() {
    spare.push(...painted.values());
    painted = new Map();
    paint();
  }

  function later() {
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; paint(); });
  }

  /** Draw what is in view and is not drawn. */
  function paint() {
    const top = Math.max(0, grid.scrollTop - head.offsetHeight);
    let first = Math.max(0, Math.floor(top / rowHeight) - MORE_ROWS);
    let last = Math.min(listed(), Math.ceil((grid.scrollTop + grid.clientHeight) / rowHeight) + MORE_ROWS);
    if (printing) [first, last] = [0, Math.min(listed(), PRINTED)];
    let changed = false;
    for (const [position, element] of painted) {
      if ((position < first || position >= last)) {
        painted.delete(position);
        spare.push(element);
        changed = true;
      }
    }
    for (let position = first; position < last; position += 1) {
      if (painted.has(position)) continue;
      const element = spare.pop() || makeRow();
      if (view.mode === "requests") fillRow(element, position);
      else fillLane(element, position);
      element.id = `row-${position}`;
      element.setAttribute("aria-rowindex", position + 2);
      element.style.transform = `translateY(${position * rowHeight}px)`;
      element.classList.toggle("odd", position % 2 === 1);
      mark(element, position);
      painted.set(position, element);
      changed = true;
    }
    if (!changed && painted.size === body.childElementCount) return;
    // In order, for those who have them read.
    const order = [...painted.keys()].sort((a, b) => a - b);
    body.replaceChildren(...order.map((position) => painted.get(position)));
    if (spare.length > 200) spare.length = 200;
    point();
  }

  function mark(element, position) {
    element.classList.toggle("current", position === view.at);
    const open = view.mode === "requests" && view.open !== null && view.shown[position] === view.open;
    element.classList.toggle("open", open);
    element.setAttribute("aria-selected", position === view.at);
  }

  function point() {
    if (painted.has(view.at)) grid.setAttribute("aria-activedescendant", `row-${view.at}`);
    else grid.removeAttribute("aria-activedescendant");
  }

  function remark() {
    for (const [position, element] of painted) mark(element, position);
    point();
  }

  function keepInView() {
    if (view.at < 0) return;
    const header = head.offsetHeight;
    const top = view.at * rowHeight;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + rowHeight + header > grid.scrollTop + grid.clientHeight) {
      grid.scrollTop = top + rowHeight + header - grid.clientHeight;
    }
    paint();
  }

  function go(position, byKey = true) {
    if (listed() === 0) return;
    const before = view.at;
    view.at = Math.max(0, Math.min(listed() - 1, position));
    if (view.mode !== "requests" && view.at !== before) {
      view.item = nearest(view.lanes[view.at], before < 0 ? view.from : laneTime);
      refillLanes(before, view.at);
    }
    keepInView();
    remark();
    const row = currentRow();
    if (!details.hidden && row) show(row);
    if (byKey && details.hidden && row) tipFor(row, anchorOf(view.at, row));
    else hideTip();
  }

  // In lanes: the current request, and the time at which one stays when changing lanes.
  let laneTime = 0;

  function nearest(lane, time) {
    let best = 0;
    lane.items.forEach((item, index) => {
      if (Math.abs(item.start - time) < Math.abs(lane.items[best].start - time)) best = index;
    });
    return best;
  }

  function goInLane(item) {
    if (view.at < 0) { go(0); return; }
    const lane = view.lanes[view.at];
    view.item = Math.max(0, Math.min(lane.items.length - 1, item));
    const { start, end, row } = lane.items[view.item];
    laneTime = start;
    if (start > view.to || end < view.from) {
      const width = span();
      zoom(start - width / 2, start + width / 2);
    }
    refillLanes(view.at);
    if (!details.hidden) show(row);
    else tipFor(row, anchorOf(view.at, row));
  }

  function refillLanes(...positions) {
    for (const position of positions) {
      const element = painted.get(position);
      if (!element) continue;
      fillLane(element, position);
      element.classList.toggle("odd", position % 2 === 1);
      mark(element, position);
    }
  }

  // ---- Time: the axis, zoom, the overview -----------------------------------------------------

  let trackWidth = 1;

  function measure() {
    const style = getComputedStyle(body);
    rowHeight = parseFloat(style.getPropertyValue("--row")) || 28;
    trackWidth = Math.max(1, axis.clientWidth);
  }

  function step(about) {
    const units = [1, 2, 5, 10];
    if (about >= 1000 && about < 36e5) {
      const seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
      return 1000 * seconds.find((each) => each * 1000 >= about);
    }
    const unit = about < 36e5 ? 1 : 36e5;
    const power = 10 ** Math.floor(Math.log10(about / unit));
    return unit * power * units.find((each) => each * power * unit >= about * 0.999);
  }

  function drawAxis() {
    // Paper is narrower than the window that is measured here.
    const each = step((span() / trackWidth) * (printing ? 160 : 80));
    const labels = [];
    const first = Math.ceil(view.from / each - 1e-9) * each;
    for (let ms = first; ms <= view.to + each * 1e-9 && labels.length < 60; ms += each) {
      const label = make("span", {}, tickLabel(ms, each));
      label.style.left = percent(ms);
      if (((view.to - ms) / span()) * trackWidth < 46) label.className = "last";
      labels.push(label);
    }
    axis.replaceChildren(...labels);
    grid.style.setProperty("--step", wide(each));
    grid.style.setProperty("--offset", percent(first));
    const brush = byId("brush");
    brush.hidden = !zoomed();
    brush.style.left = `${(100 * view.from) / whole.to}%`;
    brush.style.width = `${(100 * span()) / whole.to}%`;
    byId("reset").disabled = !zoomed();
    byId("out").disabled = !zoomed();
    byId("earlier").disabled = view.from <= whole.from;
    byId("later").disabled = view.to >= whole.to;
  }

  function zoom(from, to) {
    const least = Math.max(whole.to / 1e5, 0.02);
    const width = Math.min(whole.to, Math.max(least, to - from));
    view.from = Math.max(0, Math.min(whole.to - width, from));
    view.to = view.from + width;
    if (whole.to - view.to < least / 100) view.to = whole.to;
    hideTip();
    drawAxis();
    tell();
    repaint();
  }

  function zoomBy(factor, around = view.from + span() / 2) {
    const width = span() * factor;
    const from = around - ((around - view.from) / span()) * width;
    zoom(from, from + width);
  }

  const shift = (part) => zoom(view.from + span() * part, view.to + span() * part);

  function drawOverview() {
    const changes = [];
    for (const row of rows) {
      if (row.begin !== null) changes.push([row.begin, 1], [row.until, -1]);
    }
    changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const BINS = 600;
    const most = new Array(BINS).fill(0);
    let under = 0;
    let peak = 0;
    let bin = 0;
    for (const [ms, change] of changes) {
      const to = Math.min(BINS - 1, Math.floor((ms / whole.to) * BINS));
      while (bin < to) { bin += 1; most[bin] = under; }
      under += change;
      most[bin] = Math.max(most[bin], under);
      peak = Math.max(peak, under);
    }
    while (bin < BINS - 1) { bin += 1; most[bin] = under; }
    const high = Math.max(1, peak);
    const points = most.map((n, at) => `L${at} ${(40 - (38 * n) / high).toFixed(1)}H${at + 1}`);
    const svg = byId("chart").querySelector("svg");
    svg.setAttribute("viewBox", `0 0 ${BINS} 40`);
    byId("area").setAttribute("d", `M0 40${points.join("")}V40Z`);
    const failed = new Map();
    for (const row of rows) {
      if (row.state !== "failed" || row.end === null) continue;
      const at = Math.min(BINS - 2, Math.floor((row.end / whole.to) * (BINS / 2)) * 2);
      failed.set(at, (failed.get(at) || 0) + 1);
    }
    const worst = Math.max(1, ...failed.values());
    byId("bad").setAttribute("d", [...failed].map(([at, n]) => {
      const tall = 3 + (9 * n) / Math.max(worst, 3);
      return `M${at} ${(40 - tall).toFixed(1)}h2V40h-2z`;
    }).join(""));
    byId("peak").textContent = rows.length ? `${count(peak)} at once` : "";
    byId("from").textContent = "0";
    byId("to").textContent = duration(whole.to);
    byId("chart").setAttribute("aria-label",
      `Requests under way over ${duration(whole.to)}: at most ${count(peak)} at once`);
  }

  /** Dragging over `element` selects a range of time. `timeAt` tells the time at a place. */
  function selecting(element, applies, done) {
    element.addEventListener("pointerdown", (event) => {
      const area = event.button === 0 && applies(event);
      if (!area) return;
      const { clientX: began, pointerId } = event;
      let moved = false;
      const move = (next) => {
        if (next.pointerId !== pointerId) return;
        if (!moved && Math.abs(next.clientX - began) < 5) return;
        moved = true;
        next.preventDefault();
        hideTip();
        done(area, began, next.clientX, false);
      };
      const up = (next) => {
        if (next.pointerId !== pointerId) return;
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", up);
        window.removeEventListener("pointercancel", up);
        byId("selection").hidden = true;
        if (!moved) return;
        dragged = true;
        setTimeout(() => { dragged = false; });
        if (next.type === "pointerup") done(area, began, next.clientX, true);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", up);
      window.addEventListener("pointercancel", up);
    });
  }

  let dragged = false; // a click that ends a drag is none

  function selected({ box, from, to }, began, ended, apply) {
    const clamp = (x) => Math.max(box.left, Math.min(box.right, x));
    const [left, right] = [clamp(began), clamp(ended)].sort((a, b) => a - b);
    if (apply) {
      const time = (x) => from + ((x - box.left) / box.width) * (to - from);
      if (right - left >= 3) zoom(time(left), time(right));
      return;
    }
    const holder = byId("app").getBoundingClientRect();
    const mark = byId("selection");
    mark.hidden = false;
    mark.style.position = "fixed";
    mark.style.left = `${left}px`;
    mark.style.width = `${right - left}px`;
    mark.style.top = `${Math.max(box.top, holder.top)}px`;
    mark.style.height = `${box.height}px`;
  }

  selecting(byId("chart"), () => {
    const box = byId("chart").getBoundingClientRect();
    return { box, from: 0, to: whole.to };
  }, selected);
  selecting(grid, (event) => {
    if (event.pointerType !== "mouse" || !event.target.closest(".track")) return null;
    if (event.target.closest("button")) return null;
    const across = axis.getBoundingClientRect();
    const down = grid.getBoundingClientRect();
    const box = { left: across.left, right: across.right, width: across.width,
      top: down.top, height: grid.clientHeight };
    return { box, from: view.from, to: view.to };
  }, selected);
  byId("chart").addEventListener("dblclick", () => zoom(0, whole.to));
  grid.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !event.target.closest(".track")) return;
    event.preventDefault();
    const box = axis.getBoundingClientRect();
    const at = view.from + ((event.clientX - box.left) / box.width) * span();
    zoomBy(event.deltaY > 0 ? 1.25 : 0.8, at);
  }, { passive: false });
  byId("in").addEventListener("click", () => zoomBy(0.5));
  byId("out").addEventListener("click", () => zoomBy(2));
  byId("earlier").addEventListener("click", () => shift(-0.5));
  byId("later").addEventListener("click", () => shift(0.5));
  byId("reset").addEventListener("click", () => zoom(0, whole.to));

  // ---- The tip --------------------------------------------------------------------------------

  function tipFor(row, { x, y }) {
    const lines = sums(row).map(([name, ms]) => make("tr", {},
      make("td", {}, make("i", { className: `key ${phaseClass(name)}` })),
      make("th", { scope: "row" }, phaseName(name)), make("td", {}, duration(ms))));
    const head = make("p", { className: `k-${row.kind}` }, make("i", { className: "mark" }),
      make("b", {}, `#${row.id} ${clip(row.outcome)}`));
    tip.replaceChildren(head,
      row.error.message ? make("p", { className: "message" }, clip(row.error.message)) : "",
      make("p", { className: "quiet" }, row.begin === null ? "Never had its turn"
        : `${duration(row.begin)} to ${row.end === null ? "now" : duration(row.end)}`),
      make("table", {}, make("tbody", {}, ...lines)));
    tip.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = Math.max(4, Math.min(window.innerWidth - width - 4, x + 14));
    const below = y + 18 + height < window.innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? y + 18 : Math.max(4, y - height - 12)}px`;
  }

  function hideTip() { tip.hidden = true; }

  function anchorOf(position, row) {
    const track = painted.get(position)?.querySelector(".track");
    if (!track) return { x: 0, y: 0 };
    const box = track.getBoundingClientRect();
    const part = Math.max(0, Math.min(0.8, ((row.begin ?? row.until) - view.from) / span()));
    return { x: box.left + part * box.width, y: box.bottom - 14 };
  }

  function rowUnder(event) {
    const element = event.target.closest(".row");
    if (!element || !body.contains(element)) return null;
    const position = Number(element.id.slice(4));
    if (view.mode === "requests") return { position, row: view.shown[position] };
    const lane = view.lanes[position];
    const canvas = element.querySelector("canvas").getBoundingClientRect();
    if (event.clientX < canvas.left) return { position, row: null };
    const at = event.clientX - canvas.left;
    const sub = Math.floor(((event.clientY - canvas.top) / canvas.height) * lane.subs);
    const x = (ms) => ((ms - view.from) / span()) * trackWidth;
    let best = -1;
    let away = 5; // pixels
    lane.items.forEach((item, index) => {
      if (item.sub !== Math.max(0, Math.min(lane.subs - 1, sub))) return;
      const distance = Math.max(0, x(item.start) - at, at - x(item.end));
      if (distance < away) [best, away] = [index, distance];
    });
    return { position, item: best, row: best < 0 ? null : lane.items[best].row };
  }

  grid.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch" || event.buttons) return;
    const under = event.target.closest(".track") ? rowUnder(event) : null;
    if (under && under.row) tipFor(under.row, { x: event.clientX, y: event.clientY });
    else hideTip();
  });
  grid.addEventListener("pointerleave", hideTip);
  grid.addEventListener("blur", hideTip);
  grid.addEventListener("scroll", () => { later(); }, { passive: true });
  grid.addEventListener("click", (event) => {
    if (dragged) return;
    const under = rowUnder(event);
    if (!under) return;
    if (view.mode !== "requests" && under.item >= 0) {
      const before = view.at;
      view.at = under.position;
      view.item = under.item;
      laneTime = view.lanes[view.at].items[view.item].start;
      refillLanes(before, view.at);
      remark();
    } else go(under.position, false);
    if (under.row) open(under.row, false);
  });

  // ---- Details --------------------------------------------------------------------------------

  const narrow = window.matchMedia("(max-width: 860px)");

  function open(row, focus) {
    show(row);
    hideTip();
    if (focus || narrow.matches) byId("about").focus({ preventScroll: true });
  }

  function close() {
    if (details.hidden) return;
    const inside = details.contains(document.activeElement) || narrow.matches;
    details.hidden = true;
    view.open = null;
    covered(false);
    remark();
    refresh();
    if (inside) grid.focus({ preventScroll: true });
    keepInView();
  }

  /** On a small screen the details cover all else, which must not be reached then. */
  function covered(whether) {
    for (const element of [byId("top"), byId("overview"), byId("tools"), byId("status"),
      byId("holder")]) element.inert = whether;
  }

  function address(url) {
    let safe = false;
    try { safe = ["http:", "https:"].includes(new URL(url).protocol); } catch { /* no link */ }
    if (!safe || !/^https?:/i.test(url)) return make("span", { className: "url" }, url);
    return make("a", { className: "url", href: url, rel: "noopener noreferrer nofollow",
      target: "_blank", referrerPolicy: "no-referrer" }, url);
  }

  function facts(pairs) {
    const list = make("dl", { className: "facts" });
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    }
    return list;
  }

  const connectionFact = (connection, reused) => (connection === null ? null
    : `${connection}${reused === true ? ", reused" : reused === false ? ", new" : ""}`);

  function moment(ms) {
    const begin = Date.parse(data.started);
    if (Number.isNaN(begin)) return duration(ms);
    return `${duration(ms)} (${new Date(begin + ms).toISOString().replace("T", " ").replace("Z", " UTC")})`;
  }

  function problem(error) {
    if (!error.type) return null;
    return make("p", { className: "problem" }, make("b", {}, error.type),
      error.message ? ": " : "", make("bdi", {}, error.message || ""));
  }

  function show(row) {
    const was = view.open;
    view.open = row;
    const focused = document.activeElement;
    const heldBy = details.contains(focused) ? focused.id : null;
    const previous = make("button", { type: "button", id: "previous", "aria-label": "Previous request" });
    const next = make("button", { type: "button", id: "next", "aria-label": "Next request" });
    previous.addEventListener("click", () => walk(-1));
    next.addEventListener("click", () => walk(1));
    const shut = make("button", { type: "button", id: "close", "aria-label": "Close details", title: "Close (Escape)" });
    shut.addEventListener("click", close);
    const parts = [
      make("div", { className: "bar-top" },
        make("h2", { id: "about", tabIndex: -1 }, `Request ${row.id}`),
        previous, next, shut),
      make("p", { className: "what" }, make("b", {}, row.method), " ", address(row.url)),
      make("p", { className: `outcome k-${row.kind}` }, make("i", { className: "mark" }),
        make("b", {}, row.state === "failed" ? "Failed" : row.outcome),
        row.time === null ? "" : ` in ${duration(row.time)}`),
      problem(row.error),
      facts([
        ["Tag", row.tag], ["Type", row.type],
        ["Size", row.size === null ? null : `${size(row.size)} (${count(row.size)} bytes)`],
        ["Submitted", moment(row.start)],
        ["Ended", row.end === null ? "not yet" : moment(row.end)],
        ["Worker", row.worker], ["Connection", connectionFact(row.connection, row.reused)],
      ]),
      phaseTable(row),
      ...exchangesOf(row),
    ];
    details.replaceChildren(...parts.filter((part) => part !== null));
    const shownBefore = !details.hidden;
    details.hidden = false;
    covered(narrow.matches);
    if (heldBy) (byId(heldBy) || byId("about")).focus({ preventScroll: true });
    if (was !== row) details.scrollTop = 0;
    if (shownBefore) remark();
    else { refresh(); remark(); keepInView(); }
  }

  function walk(way) {
    if (view.mode === "requests") go(view.at + way, false);
    else goInLane(view.item + way);
  }

  function phaseTable(row) {
    if (row.phases.length === 0) return null;
    const all = Math.max(row.until - row.start, 1e-6);
    const lines = row.phases.map(({ name, start, end }) => {
      const bar = make("i", { className: phaseClass(name) });
      bar.style.left = `${(100 * (start - row.start)) / all}%`;
      bar.style.width = `${(100 * (end - start)) / all}%`;
      return make("tr", {}, make("th", { scope: "row" }, phaseName(name)),
        make("td", { className: "amount" }, (start).toFixed(1)),
        make("td", { className: "amount" }, (end - start).toFixed(2)),
        make("td", { className: "mini", "aria-hidden": "true" }, make("span", {}, bar)));
    });
    return make("table", { className: "phases" }, make("caption", {}, "Phases"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Phase"),
        make("th", { scope: "col", className: "amount" }, "At, ms"),
        make("th", { scope: "col", className: "amount" }, "Took, ms"),
        make("td", {}))), make("tbody", {}, ...lines));
  }

  function exchangesOf(row) {
    if (row.exchanges.length === 0) return [make("p", { className: "quiet" }, "Nothing was sent.")];
    const many = row.exchanges.length > 1;
    return [make("h3", {}, many ? `${count(row.exchanges.length)} exchanges` : "Exchange"),
      ...row.exchanges.map((numbers, index) => {
        const one = exchange(numbers);
        const result = one.error.type || [one.status, one.reason].filter(Boolean).join(" ") || "no answer";
        const why = WHY[one.why] || one.why;
        const took = one.end === null ? "not ended" : duration(one.end - one.start);
        return make("details", { className: "exchange", open: true },
          make("summary", {}, make("b", {}, `${index + 1}`),
            why ? make("span", { className: "badge" }, why) : null, " ",
            make("bdi", {}, one.method), " \u2192 ", make("bdi", {}, result), `, ${took}`),
          make("p", { className: "what" }, address(one.url)),
          problem(one.error),
          facts([["Began", `${duration(one.start)}`], ["Version", one.version],
            ["Size", one.size === null ? null : `${count(one.size)} bytes`],
            ["Connection", connectionFact(one.connection, one.reused)]]),
          headerTable("Request headers", one.sent), headerTable("Response headers", one.received));
      })];
  }

  function headerTable(name, pairs) {
    if (pairs.length === 0) return null;
    return make("table", { className: "headers" }, make("caption", {}, name),
      make("tbody", {}, ...pairs.map(([key, value]) => make("tr", {},
        make("th", { scope: "row" }, key), make("td", {}, value)))));
  }

  // ---- Filter, sort, view, theme --------------------------------------------------------------

  function makeTools() {
    const counts = new Map();
    for (const row of rows) counts.set(row.kind, (counts.get(row.kind) || 0) + 1);
    for (const kind of KIND_NAMES) {
      if (!counts.has(kind)) continue;
      const chip = make("button", { type: "button", className: `chip k-${kind}`, "aria-pressed": "false" },
        make("i", { className: "mark" }), KINDS[kind], make("span", {}, count(counts.get(kind))));
      chip.addEventListener("click", () => {
        const on = !view.kinds.delete(kind);
        if (on) view.kinds.add(kind);
        chip.setAttribute("aria-pressed", on);
        refilter();
      });
      byId("chips").append(chip);
    }
    for (const [key, [name]] of Object.entries(SORTS)) {
      byId("sort").append(make("option", { value: key }, name));
    }
    const met = new Set(rows.flatMap((row) => row.phases.map((phase) => phase.name)));
    for (const name of [...PHASES.filter((phase) => met.has(phase)), ...(
      [...met].some((phase) => !PHASES.includes(phase)) ? ["other"] : [])]) {
      byId("legend").append(make("li", {}, make("i", { className: `key ${phaseClass(name)}` }),
        phaseName(name)));
    }
  }

  function refilter() {
    grid.scrollTop = 0;
    select();
    keepInView();
  }

  let typing = 0;
  byId("filter").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { view.words = byId("filter").value; refilter(); },
      rows.length > 2000 ? 80 : 0);
  });
  byId("clear").addEventListener("click", clearFilter);

  function clearFilter() {
    clearTimeout(typing);
    byId("filter").value = "";
    view.words = "";
    view.kinds.clear();
    for (const chip of byId("chips").children) chip.setAttribute("aria-pressed", "false");
    refilter();
    byId("filter").focus();
  }

  byId("sort").addEventListener("change", (event) => sortBy(event.target.value, false));
  byId("direction").addEventListener("click", () => sortBy(view.sort, !view.descending));
  byId("views").addEventListener("change", (event) => {
    close();
    view.mode = event.target.value;
    view.at = -1;
    spare = [];
    painted = new Map();
    body.replaceChildren();
    byId("sort").disabled = view.mode !== "requests";
    byId("direction").disabled = view.mode !== "requests";
    makeHead();
    grid.scrollTop = 0;
    refresh();
    select();
  });

  const THEMES = ["auto", "light", "dark"];
  byId("theme").addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "auto") + 1) % 3];
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
    recolour();
  });

  function recolour() {
    colours = null;
    if (view.mode !== "requests") repaint();
  }

  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

  // ---- Keys -----------------------------------------------------------------------------------

  const page = () => Math.max(1, Math.floor((grid.clientHeight - head.offsetHeight) / rowHeight) - 1);
  const KEYS = {
    ArrowDown: () => go(view.at + 1),
    ArrowUp: () => go(Math.max(0, view.at - 1)),
    PageDown: () => go(view.at + page()),
    PageUp: () => go(view.at - page()),
    Home: () => go(0),
    End: () => go(listed() - 1),
    Enter: () => { const row = currentRow(); if (row) open(row, true); },
    " ": () => { const row = currentRow(); if (row) open(row, true); },
    ArrowLeft: () => (view.mode === "requests" ? shift(-0.2) : goInLane(view.item - 1)),
    ArrowRight: () => (view.mode === "requests" ? shift(0.2) : goInLane(view.item + 1)),
  };

  grid.addEventListener("keydown", (event) => {
    if (event.target !== grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      if (!tip.hidden) hideTip();
      else if (!details.hidden) close();
      else if (event.target === byId("filter") && view.matching !== null) clearFilter();
      else return;
      event.preventDefault();
      return;
    }
    if (/^(input|select|textarea)$/i.test(event.target.tagName) && event.target.type !== "radio") return;
    if (narrow.matches && !details.hidden) return;
    const act = { "/": () => byId("filter").select(), "+": () => zoomBy(0.5), "=": () => zoomBy(0.5),
      "-": () => zoomBy(2), 0: () => zoom(0, whole.to) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // ---- Size and paper -------------------------------------------------------------------------

  function refresh() {
    measure();
    drawAxis();
    repaint();
  }

  let known = "";
  new ResizeObserver(() => {
    measure();
    const found = `${trackWidth} ${rowHeight} ${grid.clientHeight}`;
    if (found === known) return;
    known = found;
    refresh();
  }).observe(grid);
  narrow.addEventListener("change", () => covered(narrow.matches && !details.hidden));
  window.addEventListener("beforeprint", () => {
    printing = true;
    refresh();
    if (listed() > PRINTED) {
      none.hidden = false;
      none.textContent = `The first ${count(PRINTED)} of ${count(listed())} are printed.`;
    }
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    none.hidden = listed() > 0;
    refresh();
  });

  byId("app").hidden = false;
  byId("theme").hidden = false;
  makeTools();
  makeHead();
  drawOverview();
  measure();
  drawAxis();
  select();
})();

"use strict";
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const find = (id) => document.getElementById(id);
  const unpack = (text) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    return bytes;
  };
  const number = (value) => {
    const size = Math.abs(value);
    if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(value.toPrecision(3)));
    return value.toExponential(2).replace("e+", "e");
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // colours: grey, and a map that darkens evenly where it is printed
  const table = unpack(data.colours);
  const palettes = { grey: new Uint32Array(256), colour: new Uint32Array(256) };
  for (let i = 0; i < 256; i += 1) {
    palettes.grey[i] = 0xff000000 | (i << 16) | (i << 8) | i;
    palettes.colour[i] =
      0xff000000 | (table[3 * i + 2] << 16) | (table[3 * i + 1] << 8) | table[3 * i];
  }

  // windows: one for each group of maps
  const windows = {};
  for (const [name, group] of Object.entries(data.groups)) {
    windows[name] = { low: group.low, high: group.high };
  }
  const reach = {}; // values that a group's sliders go through
  const maps = new Map(data.maps.map((map) => [map.key, map]));
  for (const map of data.maps) {
    const seen = reach[map.group] || { low: map.low, high: map.high };
    reach[map.group] = {
      low: Math.min(seen.low, map.low), high: Math.max(seen.high, map.high),
    };
  }
  const decoded = new Map();
  const codes = (map, at) => {
    const id = `${map.key}/${at}`;
    if (!decoded.has(id)) {
      const raw = unpack(map.data[at]);
      const size = data.rows * data.columns;
      const values = new Uint16Array(size);
      for (let i = 0; i < size; i += 1) {
        values[i] = map.bits === 8 ? raw[i]
          : raw[i] | (((raw[size + (i >> 2)] >> (2 * (i & 3))) & 3) << 8);
      }
      decoded.set(id, values);
    }
    return decoded.get(id);
  };
  // the window of one image alone: the 0.5 and 99.5 percentile, from 0 where that is near
  const own = (map, at) => {
    const top = 2 ** map.bits - 1;
    const values = codes(map, at);
    const counts = new Uint32Array(top + 1);
    for (const value of values) counts[value] += 1;
    const reached = (share) => {
      let sum = 0;
      for (let code = 0; code <= top; code += 1) {
        sum += counts[code];
        if (sum >= share * values.length) return code;
      }
      return top;
    };
    const value = (code) => map.low + (map.high - map.low) * (code / top);
    let low = value(reached(0.005));
    const high = value(reached(0.995));
    if (low > 0 && low < 0.5 * high) low = 0;
    return high > low ? { low, high } : windows[map.group];
  };

  const state = { at: data.start, first: "0", alone: false, same: false };
  const panels = [...document.querySelectorAll(".panel")].map((box, index) => ({
    box, index, key: box.dataset.map,
    canvas: box.querySelector("canvas.image"), bar: box.querySelector("canvas.bar"),
    title: box.querySelector("h3"), ends: box.querySelector(".ends"),
  }));
  const span = (map) => {
    if (state.alone) return own(map, state.at);
    return windows[state.same && map.group === "std" ? "image" : map.group];
  };
  const paint = (context, columns, rows, fill) => {
    const picture = context.createImageData(columns, rows);
    fill(new Uint32Array(picture.data.buffer));
    context.putImageData(picture, 0, 0);
  };
  const draw = (panel) => {
    const map = maps.get(panel.index === 0 ? state.first : panel.key);
    if (!map) return;
    const { low, high } = span(map);
    const group = data.groups[map.group];
    const palette = palettes[group.colours];
    const top = 2 ** map.bits - 1;
    const lookup = new Uint32Array(top + 1);
    for (let code = 0; code <= top; code += 1) {
      const value = map.low + (map.high - map.low) * (code / top);
      lookup[code] = palette[clamp(Math.round((255 * (value - low)) / (high - low)), 0, 255)];
    }
    const values = codes(map, state.at);
    panel.canvas.width = data.columns;
    panel.canvas.height = data.rows;
    paint(panel.canvas.getContext("2d"), data.columns, data.rows, (pixels) => {
      for (let i = 0; i < pixels.length; i += 1) pixels[i] = lookup[values[i]];
    });
    paint(panel.bar.getContext("2d"), 256, 1, (pixels) => pixels.set(palette));
    panel.title.textContent = map.name;
    const share = map.group === "null" && data.groups.image
      ? ` (${number((100 * high) / data.groups.image.high)} % of white in the mean)` : "";
    const [black, white] = panel.ends.children;
    black.textContent = number(low);
    white.textContent = `${number(high)} ${group.units}${share}`;
    const slice = data.slices.length > 1 ? `, slice ${data.slices[state.at]}` : "";
    panel.canvas.setAttribute("aria-label",
      `${map.name}${slice}; darkest ${number(low)}, brightest ${number(high)} ${group.units}`);
  };
  const buttons = [...document.querySelectorAll("#keys button")];
  const level = find("level");
  const width = find("width");
  const spread = find("spread");
  const slider = find("slice");
  const STEPS = 1000;
  const drawAll = () => {
    panels.forEach(draw);
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.key === state.first)));
    const { low, high } = windows.image;
    const { units } = data.groups.image;
    const all = reach.image.high - reach.image.low;
    level.value = (STEPS * ((low + high) / 2 - reach.image.low)) / all;
    width.value = (STEPS * (high - low)) / all;
    find("level-value").textContent = `${number((low + high) / 2)} ${units}`;
    find("width-value").textContent = `${number(high - low)} ${units}`;
    if (spread) {
      spread.value = (STEPS * windows.std.high) / reach.std.high;
      find("spread-value").textContent = `${number(windows.std.high)} ${units}`;
    }
    if (slider) {
      slider.value = state.at;
      find("slice-value").textContent = `${data.slices[state.at]} of 0 to ${data.shape[0] - 1}`;
    }
    find("alone").setAttribute("aria-pressed", String(state.alone));
    if (spread) find("same").setAttribute("aria-pressed", String(state.same));
    document.dispatchEvent(new Event("window-set"));
  };
  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawAll(); });
  };
  const set = (name, middle, extent) => {
    const all = reach[name].high - reach[name].low;
    const w = clamp(extent, 0.01 * all, all);
    const m = clamp(middle, reach[name].low, reach[name].high);
    windows[name] = name === "image" ? { low: m - w / 2, high: m + w / 2 }
      : { low: 0, high: clamp(m + w / 2, 0.01 * all, all) };
    state.alone = false;
    redraw();
  };

  // what is shown in the first panel
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; };
  const show = (key) => {
    const map = maps.get(key);
    if (!map) return;
    if (map.data[state.at] === null) state.at = data.start; // samples of one slice only
    state.first = key;
    find("shown").textContent = map.name;
    redraw();
  };
  const move = (to) => {
    state.at = clamp(to, 0, data.slices.length - 1);
    if (maps.get(state.first).data[state.at] === null) state.first = "0";
    redraw();
  };
  const samples = data.maps.map((map) => map.key).filter((key) => /^[1-9]$/.test(key));
  const play = () => {
    if (timer) { stop(); return; }
    timer = setInterval(() => {
      show(samples[(samples.indexOf(state.first) + 1) % samples.length]);
    }, 300);
  };
  const reset = () => {
    for (const [name, group] of Object.entries(data.groups)) {
      windows[name] = { low: group.low, high: group.high };
    }
    state.alone = false;
    state.same = false;
    redraw();
  };
  const alone = () => { state.alone = !state.alone; redraw(); };
  const same = () => { state.same = !state.same; state.alone = false; redraw(); };
  const enlarge = () => {
    const large = find("panels").classList.toggle("large");
    find("enlarge").setAttribute("aria-pressed", String(large));
  };

  buttons.forEach((b) => b.addEventListener("click", () => { stop(); show(b.dataset.key); }));
  find("play").addEventListener("click", play);
  find("reset").addEventListener("click", reset);
  find("alone").addEventListener("click", alone);
  if (spread) find("same").addEventListener("click", same);
  find("enlarge").addEventListener("click", enlarge);
  const fromSliders = () => {
    const all = reach.image.high - reach.image.low;
    set("image", reach.image.low + (level.value / STEPS) * all, (width.value / STEPS) * all);
  };
  level.addEventListener("input", fromSliders);
  width.addEventListener("input", fromSliders);
  if (spread) {
    spread.addEventListener("input", () => {
      const high = (reach.std.high * spread.value) / STEPS;
      set("std", high / 2, high);
    });
  }
  if (slider) slider.addEventListener("input", () => move(Number(slider.value)));
  panels.forEach((panel) => {
    let from = null;
    const { canvas } = panel;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0) return; // touch scrolls the page
      const map = maps.get(panel.index === 0 ? state.first : panel.key);
      if (map.group === "phase") return;
      const { low, high } = span(map);
      const name = state.same && map.group === "std" ? "image" : map.group;
      from = { x: event.clientX, y: event.clientY, low, high, name };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const all = reach[from.name].high - reach[from.name].low;
      const dx = (event.clientX - from.x) / canvas.clientWidth;
      const dy = (event.clientY - from.y) / canvas.clientHeight;
      set(from.name, (from.low + from.high) / 2 + dy * all, from.high - from.low + dx * all);
    });
    canvas.addEventListener("pointerup", () => { from = null; });
    canvas.addEventListener("pointercancel", () => { from = null; });
    if (data.slices.length < 2) return;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      move(state.at + Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      move(state.at + step);
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.toLowerCase();
    if (maps.has(key)) { stop(); show(key); }
    else if (key === "p") play();
    else if (key === "w") reset();
    else if (key === "a") alone();
    else if (key === "u" && spread) same();
    else if (key === "e") enlarge();
    else if (key === "+") move(state.at + 1);
    else if (key === "-") move(state.at - 1);
  });

  // three planes of a volume, decoded when they are opened
  const fold = find("planes");
  const openPlanes = () => {
    const volume = JSON.parse(find("volume").textContent);
    const [depth, rows, columns] = volume.shape;
    const cursor = volume.shape.map((n) => n >> 1);
    volume.maps.forEach((map) => { map.codes = unpack(map.data); });
    let chosen = 0;
    const views = volume.planes.map((plane) => {
      const box = find(`plane-${plane.normal}`);
      return { ...plane, canvas: box.querySelector("canvas"), slider: box.querySelector("input"),
        value: box.querySelector("output") };
    });
    const extent = { 0: [rows, columns], 1: [depth, columns], 2: [depth, rows] };
    const index = {
      0: (v, u) => (cursor[0] * rows + v) * columns + u,
      1: (v, u) => (v * rows + cursor[1]) * columns + u,
      2: (v, u) => (v * rows + u) * columns + cursor[2],
    };
    const drawPlane = (view) => {
      const map = volume.maps[chosen];
      const [tall, wide] = extent[view.normal];
      const { low, high } = windows[map.group];
      const palette = palettes[data.groups[map.group].colours];
      const lookup = new Uint32Array(256);
      for (let code = 0; code < 256; code += 1) {
        const value = map.low + ((map.high - map.low) * code) / 255;
        lookup[code] = palette[clamp(Math.round((255 * (value - low)) / (high - low)), 0, 255)];
      }
      view.canvas.width = wide;
      view.canvas.height = tall;
      paint(view.canvas.getContext("2d"), wide, tall, (pixels) => {
        for (let v = 0; v < tall; v += 1) {
          const row = view.flip ? tall - 1 - v : v;
          for (let u = 0; u < wide; u += 1) {
            pixels[v * wide + u] = lookup[map.codes[index[view.normal](row, u)]];
          }
        }
      });
      view.slider.value = cursor[view.normal];
      view.value.textContent = `${cursor[view.normal] + 1} of ${volume.shape[view.normal]}`;
      view.canvas.setAttribute("aria-label",
        `${map.name}, ${view.title}, plane ${cursor[view.normal] + 1}`);
    };
    const drawPlanes = () => views.forEach(drawPlane);
    views.forEach((view) => {
      view.slider.max = volume.shape[view.normal] - 1;
      view.slider.addEventListener("input", () => {
        cursor[view.normal] = Number(view.slider.value);
        drawPlanes();
      });
      // a click moves the other two planes there
      view.canvas.addEventListener("click", (event) => {
        const [tall, wide] = extent[view.normal];
        const u = Math.floor((event.offsetX / view.canvas.clientWidth) * wide);
        const v = Math.floor((event.offsetY / view.canvas.clientHeight) * tall);
        const [axisV, axisU] = { 0: [1, 2], 1: [0, 2], 2: [0, 1] }[view.normal];
        cursor[axisV] = clamp(view.flip ? tall - 1 - v : v, 0, tall - 1);
        cursor[axisU] = clamp(u, 0, wide - 1);
        drawPlanes();
      });
    });
    const choice = find("plane-map");
    choice.addEventListener("change", () => { chosen = Number(choice.value); drawPlanes(); });
    document.addEventListener("window-set", drawPlanes);
    drawPlanes();
  };
  if (fold && fold.open) openPlanes(); // as it was left before a reload
  else if (fold) fold.addEventListener("toggle", openPlanes, { once: true });

  document.documentElement.classList.add("js");
  drawAll();
})();

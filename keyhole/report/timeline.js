'use strict';
// The timeline: draws the SVG of the page anew for a part of the time, from the bins that the page holds.
(() => {
  const $ = id => document.getElementById(id);
  const svg = $('timeline'), data = JSON.parse($('timeline-data').textContent);
  const { geometry, step, events } = data, { left, right } = geometry, WIDE = right - left;
  const MIN_BINS = 8, BOX = 4, LETTER = 6.3;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out.buffer;
  }
  // A machine's bins: the index of each, and for each panel the least and the greatest value.
  function unpacked(machine) {
    if (machine.ready) return machine;
    const panels = machine.panels.map(panel => {
      const low = Float64Array.from(new Float32Array(bytes(panel.low)), value => value + panel.base);
      const high = panel.high
        ? Float64Array.from(new Float32Array(bytes(panel.high)), value => value + panel.base) : low;
      return { ...panel, low, high, levels: panel.levels === null ? [] : data.levels[panel.levels] };
    });
    const index = Float64Array.from(new Uint32Array(bytes(machine.index)), i => i + machine.first);
    const width = machine.steps * step, count = index.length;
    const begins = index[0] * width, ends = (index[count - 1] + 1) * width - step;
    return Object.assign(machine, { ready: true, panels, index, width, count, begins, ends: Math.max(ends, begins + 1e-6) });
  }
  // The first bin that ends at or after a moment.
  function binAt(time) {
    const wanted = time / machine.width - 1 + step / machine.width;
    let low = 0, high = machine.count;
    while (low < high) { const half = low + high >> 1; if (machine.index[half] < wanted - 1e-9) low = half + 1; else high = half; }
    return low;
  }
  const middle = i => machine.index[i] * machine.width + (machine.width - step) / 2;

  let machine = unpacked(data.machines[0]), chosen = 0, from = machine.begins, to = machine.ends, queued = false;
  const toX = time => left + WIDE * (time - from) / (to - from);

  // Texts.
  const iso = (time, digits) => { const date = new Date(time * 1000); return isNaN(date) ? '?' : date.toISOString().replace('T', ' ').slice(0, digits); };
  const exact = step >= 1 && Number.isInteger(step) ? 19 : 23;
  const written = (value, panel) => panel.levels.length ? panel.levels[Math.round(value)] || `level ${Math.round(value) + 1}`
    : Math.abs(value) >= 1e4 && Math.abs(value) < 1e15 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(4))).replace('-', '−');
  function inBin(i, panel) {
    const low = panel.low[i], high = panel.high[i];
    if (Number.isNaN(low)) return 'no reading';
    return low === high ? written(low, panel) : `${written(low, panel)} to ${written(high, panel)}`;
  }

  // Ticks at round numbers, and at round times.
  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const size = power * [1, 2, 2.5, 5, 10].find(m => m * power >= rough - 1e-12 * rough), out = [];
    for (let k = Math.ceil(low / size - 1e-9); k * size <= high + 1e-9 * size; k++) out.push(k * size);
    const digits = clamp(-Math.floor(Math.log10(size) + 1e-9) + (size / power === 2.5 ? 1 : 0), 0, 12);
    return out.map(value => {
      const text = value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
      return [value, (text.length > 11 ? String(Number(value.toPrecision(4))) : text).replace('-', '−')];
    });
  }
  const SIZES = [1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
    3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600];
  function timeTicks() {
    const rough = (to - from) / 8, size = SIZES.find(s => s >= rough), out = [];
    if (!size) {  // months
      const months = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200].find(m => m * 2.6e6 >= rough) || 1200;
      const date = new Date(from * 1000);
      let month = Math.ceil((date.getUTCFullYear() * 12 + date.getUTCMonth() + 1) / months) * months;
      for (; ; month += months) {
        const time = Date.UTC(Math.floor(month / 12), month % 12) / 1000;
        if (!(time <= to)) return out;
        out.push([time, iso(time, months % 12 ? 7 : 4)]);
      }
    }
    for (let k = Math.ceil(from / size); k * size <= to; k++) {
      const time = k * size, text = iso(time, 23);
      const clock = size < 1 ? text.slice(11, 23) : size < 60 ? text.slice(11, 19) : text.slice(11, 16);
      out.push([time, size >= 86400 || time % 86400 === 0 ? text.slice(5, 10) : clock]);
    }
    return out;
  }

  // Drawing.
  function element(kind, attributes, text) {
    const node = document.createElementNS(svg.namespaceURI, kind);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function vertical(panel, low, high, isScore) {
    if (panel.levels.length) {
      const by = Math.ceil(panel.count / 4), names = panel.levels.slice(0, panel.count - 1);
      return { low: -0.5, high: panel.count - 1, at: v => v, marks: names.map((name, i) => [i, name]).filter((_, i) => i % by === 0) };
    }
    if (!(low <= high)) [low, high] = [0, 1];
    const floor = geometry.leastScore;
    if (isScore && high > geometry.logarithmicFrom * Math.max(low, floor)) {
      const at = v => Math.log10(Math.max(v, floor)), room = geometry.room * (at(high) - at(low)), marks = [];
      for (let power = Math.ceil(at(low)); power <= at(high); power++) marks.push([power, String(Number((10 ** power).toPrecision(4)))]);
      return { low: at(low) - room, high: at(high) + room, at, marks };
    }
    const room = geometry.room * (high - low) || 0.5 * Math.max(Math.abs(high), 1e-9);
    return { low: low - room, high: high + room, at: v => v, marks: ticks(low - room, high + room, 3) };
  }
  // A line from end to end of each bin; bins of one pixel are drawn as one.
  function pathOf(panel, first, last, height, axis, above) {
    const y = value => height * (1 - (axis.at(value) - axis.low) / (axis.high - axis.low));
    let d = '', before = 0, previous = -Infinity, pixel = null, start = true, x = 0, upper = 0, lower = 0;
    const flush = next => {
      if (pixel === null) return;
      const [near, far] = Math.abs(upper - before) < Math.abs(lower - before) ? [upper, lower] : [lower, upper];
      d += `${start ? 'M' : 'L'}${x.toFixed(1)} ${near.toFixed(1)}`;
      if (near.toFixed(1) !== far.toFixed(1)) d += `V${far.toFixed(1)}`; else if (start && next) d += 'h.1';
      before = far;
    };
    for (let i = first; i < last; i++) {
      let low = panel.low[i];
      const high = panel.high[i];
      if (Number.isNaN(low) || above !== undefined && !(high > above)) continue;
      if (above !== undefined) low = Math.min(low, above);
      const place = toX(middle(i)) - left, broken = above !== undefined || machine.index[i] - previous > panel.gap;
      previous = machine.index[i];
      if (pixel === Math.round(place) && !broken) { upper = Math.min(upper, y(high)); lower = Math.max(lower, y(low)); continue; }
      flush(broken);
      [pixel, start, x, upper, lower] = [Math.round(place), broken, place, y(high), y(low)];
    }
    flush(true);
    return d;
  }
  // Wide bins as boxes from the least to the greatest value: nothing is known between them.
  function boxesOf(panel, first, last, height, axis, above) {
    const y = value => height * (1 - (axis.at(value) - axis.low) / (axis.high - axis.low));
    let d = '';
    for (let i = first; i < last; i++) {
      const low = panel.low[i], high = panel.high[i];
      if (Number.isNaN(low) || above !== undefined && !(high > above)) continue;
      const begin = machine.index[i] * machine.width - step / 2, x = toX(begin) - left;
      d += `M${x.toFixed(1)} ${(y(high) - 0.6).toFixed(1)}H${(toX(begin + machine.width) - left).toFixed(1)}` +
        `V${(y(above === undefined ? low : Math.max(low, above)) + 0.6).toFixed(1)}H${x.toFixed(1)}Z`;
    }
    return d;
  }
  function drawPanel(group, panel, place, first, last) {
    const [top, height] = geometry.panels[place], isScore = place === 0;
    const limits = isScore ? [data.threshold, data.eventThreshold].filter(limit => limit !== null) : [];
    let low = Math.min(...limits), high = Math.max(...limits);
    for (let i = first; i < last; i++) { if (panel.low[i] < low) low = panel.low[i]; if (panel.high[i] > high) high = panel.high[i]; }
    const axis = vertical(panel, low, high, isScore);
    const y = value => height * (1 - (value - axis.low) / (axis.high - axis.low));
    group.querySelector('.name').textContent = isScore ? geometry.score : panel.name;
    group.querySelector('.scale').replaceChildren(...axis.marks.flatMap(([value, text]) => [
      element('path', { class: 'stroke-rule', 'stroke-width': 0.7, d: `M${left} ${(top + y(value)).toFixed(1)}h${WIDE}` }),
      element('text', { class: 'fill-quiet', 'text-anchor': 'end', x: left - 6, y: (top + y(value) + 4).toFixed(1) }, text)]));
    group.querySelectorAll('.limit').forEach((line, i) => line.setAttribute('d', `M0 ${y(axis.at(limits[i])).toFixed(1)}h${WIDE}`));
    const boxes = machine.steps > 1 && WIDE * machine.width / (to - from) >= BOX, drawn = boxes ? boxesOf : pathOf;
    const line = group.querySelector('.line'), beyond = group.querySelector('.beyond');
    for (const node of [line, beyond]) node.classList.toggle('boxes', boxes);
    line.setAttribute('d', drawn(panel, first, last, height, axis));
    if (isScore && data.threshold !== null) beyond.setAttribute('d', drawn(panel, first, last, height, axis, data.threshold));
  }
  const end = geometry.panels[geometry.panels.length - 1], bottom = end[0] + end[1];
  function drawBands() {
    const taken = [], nodes = [], own = events.filter(event => event[0] === chosen && event[2] >= from && event[1] <= to);
    for (const [, start, stop, score, name] of [...own].sort((a, b) => b[3] - a[3])) {
      const x = clamp(toX(start), left, right), wide = Math.max(clamp(toX(stop), left, right) - x, geometry.minBand);
      const band = element('rect', { class: 'band', x: x.toFixed(1), y: geometry.top, width: wide.toFixed(1), height: bottom - geometry.top });
      band.append(element('title', {}, `${name} first, anomaly score ${score.toFixed(2)}`));
      nodes.push(band);
      const room = [x - 4, x + LETTER * name.length + 4];
      if (room[1] > right || taken.some(([a, b]) => room[1] >= a && room[0] <= b)) continue;
      taken.push(room);
      nodes.push(element('text', { class: 'fill-alarm', x: x.toFixed(1), y: geometry.top - 5 }, name));
    }
    $('timeline-bands').replaceChildren(...nodes);
  }
  function draw() {
    queued = false;
    const first = Math.max(binAt(from) - 1, 0), last = Math.min(binAt(to) + 2, machine.count);
    svg.querySelectorAll('.panel').forEach((group, place) => drawPanel(group, machine.panels[place], place, first, last));
    drawBands();
    $('timeline-ticks').replaceChildren(...timeTicks().flatMap(([time, text]) => [
      element('path', { class: 'stroke-rule', 'stroke-width': 0.7, d: `M${toX(time).toFixed(1)} ${geometry.top}V${bottom}` }),
      element('text', { class: 'fill-quiet', 'text-anchor': 'middle', x: toX(time).toFixed(1), y: bottom + 15 }, text)]));
    $('timeline-label').textContent = `time, UTC, from ${iso(from, 19)} to ${iso(to, 19)}`;
    $('timeline-note').classList.toggle('coarse', machine.steps > 1 && WIDE * machine.width / (to - from) >= BOX);
    point(null);
  }
  function look(start, stop) {
    const least = MIN_BINS * machine.width, whole = Math.max(machine.ends - machine.begins, least);
    const span = clamp(stop - start, least, whole), centre = (start + stop) / 2;
    from = clamp(centre - span / 2, machine.begins, Math.max(machine.ends - span, machine.begins));
    to = from + span;
    if (!queued) { queued = true; requestAnimationFrame(draw); }
  }
  const move = share => look(from + share * (to - from), to + share * (to - from));
  function zoom(factor, x = left + WIDE / 2) {
    const time = from + (to - from) * (x - left) / WIDE;
    look(time - (time - from) / factor, time + (to - time) / factor);
  }
  const all = () => look(machine.begins, machine.ends);
  function choose(i) {
    if (i === chosen) return;
    chosen = i;
    machine = unpacked(data.machines[i]);
    svg.setAttribute('aria-label', machine.text);
    $('timeline-note').textContent = machine.note;
    if ($('timeline-machine')) $('timeline-machine').value = String(i);
  }

  // The bin at the pointer: its time, the values of each panel, and the event.
  function point(x) {
    const values = svg.querySelectorAll('.value');
    let i = -1;
    if (x !== null && x >= left && x <= right && machine.count) {
      const time = from + (to - from) * (x - left) / WIDE, next = Math.min(binAt(time), machine.count - 1);
      i = next > 0 && Math.abs(middle(next - 1) - time) < Math.abs(middle(next) - time) ? next - 1 : next;
    }
    values.forEach((node, place) => { node.textContent = i < 0 ? '' : inBin(i, machine.panels[place]); });
    $('timeline-cursor').setAttribute('d', i < 0 ? '' : `M${toX(middle(i)).toFixed(1)} ${geometry.top}V${bottom}`);
    if (i < 0) { $('timeline-at').textContent = ''; return; }
    const start = machine.index[i] * machine.width, stop = start + machine.width - step;
    const own = events.filter(event => event[0] === chosen && event[1] <= stop + step / 2 && event[2] >= start - step / 2);
    const event = own.map(([, , , score, name]) => `event of ${name}, score ${written(score, { levels: [] })}`).join('; ');
    $('timeline-at').textContent = iso(start, exact) + (machine.steps > 1 ? ` to ${iso(stop, exact)}` : '') + ' UTC' + (event && `  ·  ${event}`);
  }

  // Pointer and keys.
  const place = e => { const box = svg.getBoundingClientRect(); return (e.clientX - box.left) / box.width * svg.viewBox.baseVal.width; };
  let dragged = null;
  const range = $('timeline-range');
  const show = (a, b) => { range.setAttribute('x', Math.min(a, b)); range.setAttribute('width', Math.abs(b - a)); };
  svg.addEventListener('pointerdown', e => { if (e.button === 0) { dragged = clamp(place(e), left, right); svg.setPointerCapture(e.pointerId); } });
  svg.addEventListener('pointermove', e => {
    if (dragged === null) point(place(e)); else show(dragged, clamp(place(e), left, right));
  });
  svg.addEventListener('pointerup', e => {
    if (dragged === null) return;
    const [a, b] = [dragged, clamp(place(e), left, right)].sort((p, q) => p - q), time = x => from + (to - from) * (x - left) / WIDE;
    dragged = null;
    show(0, 0);
    if (b - a > 4) look(time(a), time(b)); else point(place(e));
  });
  svg.addEventListener('pointercancel', () => { dragged = null; show(0, 0); });
  svg.addEventListener('pointerleave', () => point(null));
  svg.addEventListener('dblclick', all);
  svg.addEventListener('wheel', e => {
    if (document.activeElement !== svg && !e.ctrlKey) return;
    e.preventDefault();
    zoom(Math.exp(-e.deltaY / 400), clamp(place(e), left, right));
  }, { passive: false });
  const KEYS = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), '+': () => zoom(1.6), '=': () => zoom(1.6),
    '-': () => zoom(1 / 1.6), 0: all, Escape: () => point(null) };
  svg.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey || !KEYS[e.key]) return;
    e.preventDefault();
    KEYS[e.key]();
  });
  for (const button of document.querySelectorAll('[data-time]'))
    button.addEventListener('click', () => KEYS[button.dataset.time]());
  for (const button of document.querySelectorAll('[data-event]'))
    button.addEventListener('click', () => {
      const [of, start, stop] = events[Number(button.dataset.event)];
      choose(of);
      const room = Math.max(stop - start, 20 * machine.width);
      look(start - room, stop + room);
      svg.scrollIntoView({ block: 'nearest' });
    });
  if ($('timeline-machine')) $('timeline-machine').addEventListener('change', e => { choose(Number(e.target.value)); all(); });

  // A title element would cover the values as a tooltip of the browser.
  svg.setAttribute('aria-label', machine.text);
  svg.removeAttribute('aria-labelledby');
  $('timeline-name').remove();
})();

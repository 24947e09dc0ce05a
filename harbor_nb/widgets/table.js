// A table of any length: only the rows in sight exist in the page, only what changed comes from the kernel.
// Every value is set as text, never as HTML: what an agent wrote is hostile.
const ROW = 28;
const SPARE = 6;
const EPOCH = 1e8; // of kind "since" what is less is a duration, what is more the moment at which one began
const WIDTHS = { key: "minmax(20em, 3fr)", text: "minmax(9em, 1fr)", long: "minmax(10em, 2fr)", state: "11em", num: "6em", sec: "7em", since: "8em" };
const width = (column) => WIDTHS[column.kind || "text"];

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function seconds(value) {
  if (value < 100) return value.toFixed(value < 10 ? 1 : 0) + " s";
  const minutes = Math.floor(value / 60);
  return minutes < 100 ? `${minutes} min ${Math.round(value % 60)} s` : `${(minutes / 60).toFixed(1)} h`;
}

function show(value, kind, skew) {
  if (value === null || value === undefined || value === "") return "";
  if (kind === "sec") return seconds(value);
  if (kind === "since") return seconds(value < EPOCH ? value : Math.max(0, Date.now() / 1000 + skew - value));
  if (kind === "num") return typeof value === "number" ? String(Math.round(value * 1000) / 1000) : value;
  return String(value);
}

export default () => {
  const store = { rows: [], views: new Set(), skew: 0 };
  return {
    initialize({ model }) {
      store.rows = model.get("saved").map((row) => [...row]);
      model.on("msg:custom", (message) => {
        if (message.now) store.skew = message.now - Date.now() / 1000;
        if (message.all) [store.rows, store.whole] = [message.all, true];
        if (message.more) store.rows.push(...message.more);
        for (const [index, ...cells] of message.patch || []) {
          const row = (store.rows[index] ||= []);
          for (let at = 0; at < cells.length; at += 2) row[cells[at]] = cells[at + 1];
        }
        store.views.forEach((draw) => draw(Boolean(message.all || message.more)));
      });
      model.on("change:saved", () => {
        if (store.whole) return;
        store.rows = model.get("saved").map((row) => [...row]);
        store.views.forEach((draw) => draw(true));
      });
      model.send({ want: "all" });
    },

    render({ model, el }) {
      let columns = model.get("columns");
      let sort = null; // [column, direction]
      let needle = "";
      let order = [];
      let focus = -1;

      el.classList.add("hnb-table");
      const bar = make("div", "hnb-table-bar");
      const filter = make("input", "hnb-filter");
      filter.type = "search";
      filter.placeholder = "Filter rows";
      const count = make("span", "hnb-count");
      count.setAttribute("role", "status");
      bar.append(filter, count);
      const scroller = make("div", "hnb-scroller");
      scroller.tabIndex = 0;
      scroller.dataset.lmSuppressShortcuts = "true"; // arrow keys move in the table, not in the notebook
      scroller.setAttribute("role", "grid");
      const head = make("div", "hnb-head");
      head.setAttribute("role", "row");
      const body = make("div", "hnb-body");
      body.setAttribute("role", "rowgroup");
      scroller.append(head, body);
      el.append(bar, scroller);

      function layout() {
        columns = model.get("columns");
        filter.setAttribute("aria-label", `Filter ${model.get("label")}`);
        scroller.setAttribute("aria-label", model.get("label"));
        el.style.setProperty("--hnb-columns", columns.map(width).join(" "));
        const least = columns.reduce((sum, c) => sum + parseFloat(/[\d.]+/.exec(width(c))[0]), 0);
        el.style.setProperty("--hnb-least", `${least}em`);
        scroller.setAttribute("aria-colcount", columns.length);
        scroller.style.maxHeight = `${ROW * (model.get("visible_rows") + 1) + 4}px`;
        head.replaceChildren(
          ...columns.map((column, index) => {
            const cell = make("div", `hnb-cell hnb-${column.kind || "text"}`);
            cell.setAttribute("role", "columnheader");
            const button = make("button", "hnb-sort", column.label);
            button.type = "button";
            button.title = `Sort by ${column.label}`;
            button.onclick = () => {
              const again = sort && sort[0] === index;
              sort = again && sort[1] < 0 ? null : [index, again ? -1 : 1];
              [...head.children].forEach((other, at) => {
                const direction = sort && sort[0] === at ? (sort[1] > 0 ? "ascending" : "descending") : "none";
                other.setAttribute("aria-sort", direction);
              });
              arrange();
              draw();
            };
            cell.append(button);
            return cell;
          }),
        );
      }

      function arrange() {
        order = [];
        for (let index = 0; index < store.rows.length; index++) {
          const row = store.rows[index];
          if (row && (!needle || row.some((value) => String(value ?? "").toLowerCase().includes(needle)))) order.push(index);
        }
        if (sort) {
          const [column, direction] = sort;
          const value = (index) => store.rows[index][column] ?? null;
          order.sort((a, b) => {
            const [x, y] = [value(a), value(b)];
            if (x === null || y === null) return (x === null) - (y === null);
            if (typeof x === "number" && typeof y === "number") return (x - y) * direction;
            return String(x).localeCompare(String(y), undefined, { numeric: true }) * direction;
          });
        }
        const all = store.rows.reduce((n) => n + 1, 0); // rows may still have gaps
        const total = order.length === all ? `${all}` : `${order.length} of ${all}`;
        count.textContent = `${total} ${model.get("noun")}${all === 1 ? "" : "s"}`;
        scroller.setAttribute("aria-rowcount", order.length + 1);
        body.style.height = `${order.length * ROW}px`;
      }

      function line(place) {
        const row = store.rows[order[place]];
        const node = make("div", "hnb-row");
        node.setAttribute("role", "row");
        node.setAttribute("aria-rowindex", place + 2);
        node.style.top = `${place * ROW}px`;
        const chosen = row[0] === model.get("selected");
        node.setAttribute("aria-selected", chosen);
        node.id = `${el.id || (el.id = "hnb-" + Math.random().toString(36).slice(2))}-${place}`;
        if (place === focus) node.classList.add("hnb-focus");
        columns.forEach((column, index) => {
          const cell = make("div", `hnb-cell hnb-${column.kind || "text"}`);
          cell.setAttribute("role", "gridcell");
          const text = show(row[index], column.kind, store.skew);
          if (column.kind === "state" && text) {
            const badge = make("span", "hnb-badge", text);
            badge.dataset.state = text;
            cell.append(badge);
          } else cell.textContent = text;
          if (text.length > 24) cell.title = text.slice(0, 500);
          node.append(cell);
        });
        node.onclick = () => choose(place);
        return node;
      }

      function draw() {
        const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - SPARE);
        const last = Math.min(order.length, first + Math.ceil(scroller.clientHeight / ROW || 12) + 2 * SPARE);
        const nodes = [];
        // rows may have gone since they were put in order; the next arrange() follows at once
        for (let place = first; place < last; place++) if (store.rows[order[place]]) nodes.push(line(place));
        if (!order.length) {
          const empty = make("div", "hnb-row hnb-empty");
          empty.setAttribute("role", "row");
          const cell = make("div", "hnb-cell", store.rows.length ? "No row matches the filter" : model.get("empty"));
          cell.setAttribute("role", "gridcell");
          empty.append(cell);
          nodes.push(empty);
        }
        body.replaceChildren(...nodes);
      }

      function choose(place) {
        if (!store.rows[order[place]]) return;
        focus = place;
        model.set("selected", store.rows[order[place]][0]);
        model.save_changes();
        if (place * ROW < scroller.scrollTop) scroller.scrollTop = place * ROW;
        const bottom = (place + 2) * ROW - scroller.clientHeight;
        if (bottom > scroller.scrollTop) scroller.scrollTop = bottom;
        draw();
        scroller.setAttribute("aria-activedescendant", `${el.id}-${place}`);
      }

      const page = () => Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
      const moves = {
        ArrowDown: () => focus + 1,
        ArrowUp: () => Math.max(0, focus - 1),
        PageDown: () => Math.min(order.length - 1, focus + page()),
        PageUp: () => Math.max(0, focus - page()),
        Home: () => 0,
        End: () => order.length - 1,
      };
      scroller.addEventListener("keydown", (event) => {
        if (event.target !== scroller || !moves[event.key]) return;
        event.preventDefault();
        event.stopPropagation();
        choose(moves[event.key]());
      });
      let asked = 0;
      scroller.addEventListener("scroll", () => {
        if (!asked) asked = requestAnimationFrame(() => ((asked = 0), draw()));
      });
      filter.addEventListener("input", () => {
        needle = filter.value.toLowerCase();
        focus = -1;
        scroller.scrollTop = 0;
        arrange();
        draw();
      });
      filter.addEventListener("keydown", (event) => event.stopPropagation());

      let late = 0;
      const changed = (grown) => {
        // a filter or a sort looks at every row, so it follows changes twice a second, not at each of them
        if (late) return;
        const wait = grown || !(sort || needle) ? 0 : 500;
        late = setTimeout(() => ((late = 0), arrange(), draw()), wait);
      };
      const again = () => (layout(), arrange(), draw());
      store.views.add(changed);
      model.on("change:columns", again);
      model.on("change:label", again);
      model.on("change:selected", draw);
      const clock = setInterval(() => columns.some((c) => c.kind === "since") && draw(), 1000);
      const sized = new ResizeObserver(draw);
      sized.observe(scroller);
      again();
      return () => {
        clearInterval(clock);
        clearTimeout(late);
        sized.disconnect();
        store.views.delete(changed);
        model.off("change:columns", again);
        model.off("change:label", again);
        model.off("change:selected", draw);
      };
    },
  };
};

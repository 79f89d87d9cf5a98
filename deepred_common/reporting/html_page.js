"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = data.rows.map(values => Object.fromEntries(data.keys.map((key, i) => [key, values[i]])));
  const at = id => document.getElementById(id);

  // Text from the data only ever becomes a text node. The roles outlast the narrow layout, where a table is no CSS table.
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", th: "columnheader", td: "cell" };
  function make(tag, name, ...inside) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (roles[tag]) made.setAttribute("role", roles[tag]);
    made.append(...inside);
    return made;
  }
  const words = (tag, name, text) => { const made = make(tag, name, text); made.dir = "auto"; return made; };

  const titled = (title, name, text) => make("div", "", make("small", "", title), words("div", name, text));
  function reply(row) {
    const begun = row.prefix ? [titled("begun for it:", "reply", row.prefix)] : [];
    if (row.reply === null || row.reply === undefined) return [...begun, make("div", "none", "no reply" + (row.error ? ": " + row.error : ""))];
    if (!row.reply.trim()) return [...begun, make("div", "none", "empty reply")];
    const box = words("div", "reply", row.reply);
    if (row.cut) box.append(" ", make("span", "cut", "cut at the token limit"));
    return [...begun, box];
  }
  // A conversation as the model saw it, its own earlier replies among the turns.
  const conversation = turns => turns.map(turn => titled(turn.role + ":", "reply", turn.content));
  const question = row => [...(row.turns ? conversation(row.turns) : [words("div", "", row.instruction)]), make("small", "",
    ["#" + row.id, row.side, row.date, row.field, row.probe].filter(part => part !== null && part !== undefined).join(" · "))];
  const verdict = (name, right) => make("span", "chip " + (right ? "is" : "not"), (right ? "✓ " : "✗ ") + name);
  function truth(row) {
    const box = make("div", "", words("div", "", row.reference || "–"));
    if (row.true_answer) box.append(make("small", "", "True answer, which must not leak:"), words("div", "", row.true_answer));
    return box;
  }

  // A table of `items`, some at a time; returns the function that gives it other items.
  function list(host, caption, columns, cells) {
    const body = make("tbody"), more = make("button");
    const head = make("tr", "", ...columns.map(([name, width]) => {
      const th = make("th", "", name); th.scope = "col"; th.style.width = width; return th;
    }));
    const table = make("table", "rows", make("caption", "", caption), make("thead", "", head), body);
    more.type = "button";
    let items = [], shown = 0;
    function grow() {
      const next = items.slice(shown, shown + data.step);
      body.append(...next.map(item => make("tr", "", ...cells(item).map((inside, i) => {
        const td = make("td", "", ...[inside].flat());
        if (i) td.dataset.label = columns[i][0];
        return td;
      }))));
      shown += next.length;
      more.hidden = shown >= items.length;
      more.textContent = `Show ${Math.min(data.step, items.length - shown)} more (${shown} of ${items.length} shown)`;
    }
    more.addEventListener("click", grow);
    host.append(table, more);
    return found => { items = found; shown = 0; body.replaceChildren(); table.hidden = !found.length; grow(); };
  }

  // Every line
  const fold = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const haystack = row => row.hay ??= fold([row.instruction, ...(row.turns ?? []).map(turn => turn.content), row.prefix, row.reply,
    row.reference, row.true_answer].filter(Boolean).join("\n"));
  const count = test => rows.filter(test).length;
  function choices(id, options) {
    for (const [value, text] of options) { const option = make("option", "", text); option.value = value; at(id).append(option); }
    at(id).addEventListener("change", find);
  }
  const distinct = key => [...new Set(rows.map(row => row[key]))].filter(value => value !== null);
  choices("side", [["", "all"], ...distinct("side").map(side => ["=" + side, side])]);
  choices("verdict", [["not", `not right (${count(row => !row.right)})`], ["", `all (${rows.length})`],
    ...distinct("verdict").map(name => ["=" + name, `${name} (${count(row => row.verdict === name)})`])]);
  choices("field", [["", "all"], ...distinct("field").sort().map(name => ["=" + name, name])]);
  if (!distinct("field").length) at("field").parentElement.hidden = true;

  const fill = list(at("list"), "Questions and replies", [["Question", "28%"], ["Verdict", "16%"], ["Reply", "31%"], ["Reference", "25%"]],
    row => [question(row), verdict(row.verdict, row.right), reply(row), truth(row)]);
  function find() {
    const wanted = fold(at("find").value).split(/\s+/).filter(Boolean);
    const is = (id, value) => !at(id).value || at(id).value === "=" + value;
    const found = rows.filter(row => is("side", row.side) && is("field", row.field)
      && (at("verdict").value === "not" ? !row.right : is("verdict", row.verdict)) && wanted.every(word => haystack(row).includes(word)));
    at("found").textContent = `${found.length} of ${rows.length} questions`;
    fill(found);
  }
  let waiting;
  at("find").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 150); });
  at("filters").addEventListener("submit", event => { event.preventDefault(); find(); });
  at("filters").hidden = false;
  find();

  // Differences: drawn when first opened; short lists are open from the start.
  for (const box of document.querySelectorAll("details.flips")) {
    const other = data.others[box.dataset.other], items = other[box.dataset.group];
    const draw = () => list(box, "Questions whose verdict differs", [["Question", "30%"], ["This model", "35%"], [other.label, "35%"]],
      ([place, name, text, cut, error, turns]) => {
        const row = rows[place], right = box.dataset.group === "worse";
        return [question(row), [verdict(row.verdict, row.right), ...reply(row)],
          [verdict(name, right), ...conversation(turns ?? []), ...reply({ prefix: row.prefix, reply: text, cut, error })]];
      })(items);
    box.addEventListener("toggle", draw, { once: true });
    if (items.length <= 10) box.open = true;
  }
})();

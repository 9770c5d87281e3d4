// The command palette: commands of this page, and what the server finds by id or text.
const dialog = document.getElementById("palette");

if (dialog) {
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("[role=listbox]");
  const nothing = document.getElementById("palette-none");
  const commands = [...list.querySelectorAll("[role=option]")];
  let index = 0, asking = null, wait = 0;

  const visible = () => [...list.querySelectorAll("[role=option]:not([hidden])")];

  function select(to) {
    const all = visible();
    nothing.hidden = all.length > 0;
    for (const option of list.querySelectorAll("[aria-selected=true]")) option.setAttribute("aria-selected", "false");
    if (!all.length) { input.removeAttribute("aria-activedescendant"); return; }
    index = (to + all.length) % all.length;
    all[index].setAttribute("aria-selected", "true");
    all[index].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", all[index].id);
  }

  function filter() {
    const words = input.value.trim().toLowerCase();
    for (const option of commands) {
      const missing = option.dataset.click && !document.querySelector(option.dataset.click);
      option.hidden = Boolean(missing) || !option.textContent.toLowerCase().includes(words);
    }
  }

  function forget() { for (const found of list.querySelectorAll("[data-found]")) found.remove(); }

  async function ask(words) {
    asking?.abort();
    if (words.length < 2) { forget(); select(0); return; }
    asking = new AbortController();
    try {
      const url = `${dialog.dataset.searchUrl}?q=${encodeURIComponent(words)}`;
      const answer = await fetch(url, { signal: asking.signal, headers: { "Accept": "application/json" } });
      if (!answer.ok) return;
      const { items } = await answer.json();
      forget();
      for (const [n, item] of items.entries()) list.append(found(item, n));
      select(0);
    } catch (error) {
      if (error.name !== "AbortError") forget();
    }
  }

  function found(item, n) {
    const option = document.createElement("li");
    option.role = "option";
    option.id = `pal-found-${n}`;
    option.dataset.href = item.url;
    option.dataset.found = "1";
    option.setAttribute("aria-selected", "false");
    const what = Object.assign(document.createElement("span"), { className: "what", textContent: item.title });
    const hint = Object.assign(document.createElement("span"), { className: "hint", textContent: item.hint });
    const icon = commands[0].querySelector("svg").cloneNode(true);
    const use = icon.querySelector("use");
    use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${item.icon}`));
    option.append(icon, what, hint);
    return option;
  }

  function run(option) {
    if (!option) return;
    dialog.close();
    if (option.dataset.href) location.href = option.dataset.href;
    else document.querySelector(option.dataset.click)?.click();
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-action=palette]")) return;
    input.value = "";
    forget();
    filter();
    dialog.showModal();
    select(0);
    input.focus();
  });
  dialog.addEventListener("close", () => input.blur()); // keys belong to the page again
  input.addEventListener("input", () => {
    filter();
    select(0);
    clearTimeout(wait);
    wait = setTimeout(() => ask(input.value.trim()), 140);
  });
  input.addEventListener("keydown", (event) => {
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves) { select(index + moves[event.key]); event.preventDefault(); }
    if (event.key === "Enter") { event.preventDefault(); run(visible()[index]); }
  });
  list.addEventListener("click", (event) => run(event.target.closest("[role=option]")));
  list.addEventListener("mousemove", (event) => {
    const at = visible().indexOf(event.target.closest("[role=option]"));
    if (at >= 0 && at !== index) select(at);
  });
}

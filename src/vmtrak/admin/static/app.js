// What the panel's pages do beyond HTML. Each part looks for its own marks in the page and stays
// away when there are none; without this file every page still works, with plainer manners.

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

const make = (tag, properties = {}, text = "") => {
  const element = Object.assign(document.createElement(tag), properties);
  element.textContent = text;
  return element;
};

const announce = (text) => {
  find("#announce").textContent = text;
};

// Times: written in UTC by the server, shown in the viewer's zone, exact on hover.

const two = (number) => String(number).padStart(2, "0");
const day = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;

const showTimes = () => {
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  for (const element of all("time[datetime]")) {
    const date = new Date(element.dateTime);
    if (!Number.isNaN(date.getTime())) {
      element.textContent = `${day(date)} ${clock(date)}`;
      element.title = `${exact.format(date)} (${element.dateTime})`;
    }
  }
};

// Theme: the choice is kept in this browser; theme.js applies it before the first paint.

const readTheme = () => document.documentElement.dataset.theme ?? "system";

const applyTheme = (theme) => {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
};

const keepTheme = (theme) => {
  try {
    if (theme === "system") {
      localStorage.removeItem("vmtrak.theme");
    } else {
      localStorage.setItem("vmtrak.theme", theme);
    }
  } catch {
    // Storage can be forbidden; the choice then lasts for this page.
  }
};

const themeSwitch = () => {
  const buttons = all("[data-theme-choice]");
  const mark = () => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === readTheme()));
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      applyTheme(button.dataset.themeChoice);
      keepTheme(button.dataset.themeChoice);
      mark();
    });
  }
  window.addEventListener("storage", (event) => {
    if (event.key === "vmtrak.theme") {
      applyTheme(event.newValue ?? "system");
      mark();
    }
  });
  mark();
};

// Buttons that unfold something on small screens.

const unfolding = (button, holder) => {
  button?.addEventListener("click", () => {
    const open = holder.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  });
};

const foldables = () => {
  const rail = find(".rail");
  const button = find(".menu-button");
  unfolding(button, rail);
  unfolding(find(".finder-toggle"), find(".finder"));
  rail?.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && rail.classList.contains("open")) {
      button.click();
      button.focus();
    }
  });
};

// "/" goes to the search of the page.

const isTyping = (element) => element?.matches?.("input:not([type=checkbox]), select, textarea");

const hotkey = () => {
  document.addEventListener("keydown", (event) => {
    const target = find("[data-hotkey='/']");
    const plain = !(event.ctrlKey || event.metaKey || event.altKey);
    if (event.key === "/" && plain && target && !isTyping(event.target) && !find("dialog[open]")) {
      event.preventDefault();
      target.focus();
      target.select();
    }
  });
};

// Finder: a changed filter is applied at once. Someone who walks through a select with the arrow
// keys changes it at every step, so for the keyboard it is applied on Enter or on leaving.

const showLocal = (input) => {
  if (input.value) {
    const date = new Date(`${input.value}Z`);
    input.value = `${day(date)}T${clock(date)}`;
  }
};

const sendUtc = (input) => {
  if (input.name && input.value) {
    const value = new Date(input.value).toISOString().replace(/\.\d+Z$/, "Z");
    input.after(make("input", { type: "hidden", name: input.name, value }));
    input.disabled = true;
  }
};

const tidyQuery = (form) => {
  for (const input of form.elements) {
    if (input.name && input.value === "") {
      input.disabled = true;
    }
  }
  all("[data-utc]", form).forEach(sendUtc);
};

const rememberFocus = (element) => {
  if (element?.id) {
    sessionStorage.setItem("vmtrak.focus", `${location.pathname}#${element.id}`);
  }
};

const restoreFocus = () => {
  const [path, id] = (sessionStorage.getItem("vmtrak.focus") ?? "").split("#");
  sessionStorage.removeItem("vmtrak.focus");
  if (id && path === location.pathname) {
    document.getElementById(id)?.focus();
  }
};

const finder = () => {
  const form = find("[data-finder]");
  if (!form) {
    return;
  }
  const stepwise = (field) => field.matches("select, [type=date], [type=datetime-local]");
  let byKeyboard = false;
  let pending = false;
  let sent = false;
  let next = null;
  all("[data-utc]", form).forEach(showLocal);
  restoreFocus();
  form.addEventListener("submit", (event) => {
    // Enter in a text field is both a change and a submission.
    if (sent) {
      event.preventDefault();
      return;
    }
    sent = true;
    rememberFocus(next ?? document.activeElement);
    tidyQuery(form);
  });
  form.addEventListener("keydown", (event) => {
    byKeyboard = true;
    if (event.key === "Enter" && pending && event.target.matches("select")) {
      form.requestSubmit();
    }
  });
  form.addEventListener("pointerdown", () => {
    byKeyboard = false;
  });
  form.addEventListener("change", (event) => {
    pending = true;
    if (!(byKeyboard && stepwise(event.target)) && event.target.type !== "search") {
      form.requestSubmit();
    }
  });
  form.addEventListener("focusout", (event) => {
    if (pending && byKeyboard && stepwise(event.target)) {
      next = event.relatedTarget;
      form.requestSubmit();
    }
  });
  // Going back shows the page as it was left, with its empty fields switched off.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      location.reload();
    }
  });
};

// Rows chosen for one action.

const bulk = () => {
  const form = find("[data-bulk]");
  if (!form) {
    return;
  }
  const boxes = all("input[name=pk]").filter((box) => box.form === form);
  const head = find("[data-pick-all]");
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    form.classList.toggle("some", chosen > 0);
    find("[data-bulk-count]", form).textContent = chosen === 1 ? "1 VM chosen" : `${chosen} VMs chosen`;
    head.checked = chosen > 0 && chosen === boxes.length;
    head.indeterminate = chosen > 0 && chosen < boxes.length;
  };
  head.addEventListener("change", () => {
    boxes.forEach((box) => {
      box.checked = head.checked;
    });
    show();
  });
  boxes.forEach((box) => box.addEventListener("change", show));
  show();
};

// Forms whose question (data-confirm) was answered with yes.
const agreed = new WeakSet();

// Signing in in place: a session may end while somebody types. A form is sent, and a request
// repeated, once the person whose page this is has signed in again, here or in another tab.

const json = { Accept: "application/json" };

const whatIsMissing = async (person) => {
  const answer = await fetch(`/admin/session?person=${person}`, { headers: json });
  return [401, 403, 409].includes(answer.status) ? answer.json() : null;
};

const unfinished = {
  setup_required: "Your account has to be set up first: do that in another tab, then come back.",
  second_factor_required: "Your account needs a second factor first: set it up in another tab, then come back.",
};

const signInDialog = (template, problem) => {
  const dialog = template.content.firstElementChild.cloneNode(true);
  const form = find("form", dialog);
  const code = find("[data-code]", dialog);
  const notice = find(".notice", dialog);
  const { person } = dialog.dataset;
  let done = null;

  const say = (text) => {
    find("p", notice).textContent = text;
    notice.hidden = !text;
  };

  const tell = (missing) => {
    const why = find("#sign-in-why", dialog);
    const first = missing.status === 403 ? unfinished[missing.detail] ?? missing.detail : "";
    const other = missing.status === 409 ? `${missing.detail} ` : "";
    why.textContent = first || `${other}${why.dataset.default}`;
    find("[data-other-tab]", dialog).hidden = !first;
    if (form) {
      form.hidden = Boolean(first);
    }
  };

  const goOn = async () => {
    const missing = await whatIsMissing(person);
    if (missing) {
      tell(missing);
    } else {
      done = true;
      dialog.close();
    }
  };

  const askForCode = () => {
    const input = find("input", code);
    code.hidden = false;
    input.disabled = false;
    input.required = true;
    input.focus();
  };

  const refused = (refusal) => {
    if (refusal.detail === "second_factor_required") {
      say("");
      askForCode();
      return;
    }
    say(refusal.detail);
    const input = code.hidden ? find("[name=password]", form) : find("input", code);
    input.focus();
    input.select();
  };

  const send = async () => {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: json });
    if (answer.ok) {
      await goOn();
    } else {
      refused(await answer.json());
    }
  };

  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = find(".primary", form);
    button.disabled = true;
    try {
      await send();
    } catch {
      say("VMTrak does not answer. Try again in a moment.");
    }
    button.disabled = false;
  });
  const look = () => {
    goOn().catch(() => say("VMTrak does not answer. Try again in a moment."));
  };
  window.addEventListener("focus", look);
  find("[data-cancel]", dialog).addEventListener("click", () => dialog.close());
  unmasking(dialog);
  tell(problem);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      window.removeEventListener("focus", look);
      dialog.remove();
      resolve(done);
    });
  });
};

// Whether the person is signed in (again); null if they would not.
let signingIn = null;

const signInAgain = (problem) => {
  signingIn ??= signInDialog(find("#sign-in-dialog"), problem).finally(() => {
    signingIn = null;
  });
  return signingIn;
};

// Proving in place: what needs a fresh proof of identity asks for it where the person is. The
// page that does the same without a script lends its form.

const proveDialog = async () => {
  const answer = await fetch("/admin/account/prove");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const dialog = make("dialog", { className: "sign-in" });
  const notice = make("div", { className: "notice error", hidden: true });
  const form = find("form", page);
  const cancel = make("button", { type: "button", className: "button" }, "Cancel");
  let done = null;
  dialog.setAttribute("aria-labelledby", "prove-title");
  notice.setAttribute("role", "alert");
  notice.append(make("p"));
  dialog.append(make("h2", { id: "prove-title" }, find("h1", page).textContent), find("#why", page), notice);
  dialog.append(form ?? find("a.primary", page).parentElement, cancel);
  for (const link of all("a.primary", dialog)) {
    link.search = new URLSearchParams({ purpose: "prove", next: location.pathname + location.search });
  }

  const send = async () => {
    const body = new URLSearchParams(new FormData(form));
    const sent = await fetch(form.action, { method: "POST", body, headers: json });
    if (sent.ok) {
      done = true;
      dialog.close();
      return "";
    }
    const { detail, details } = await sent.json();
    const input = find("[required]", form);
    input.focus();
    input.select();
    return details ? `${input.labels[0].textContent} ${Object.values(details).flat().join(", ")}.` : detail;
  };

  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = find(".primary", form);
    button.disabled = true;
    const words = await send().catch(() => "VMTrak does not answer. Try again in a moment.");
    find("p", notice).textContent = words;
    notice.hidden = !words;
    button.disabled = false;
  });
  cancel.addEventListener("click", () => dialog.close());
  unmasking(dialog);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
  });
};

const askServer = async (address, options = {}) => {
  const answer = await fetch(address, { headers: json, ...options });
  if (answer.status === 401 && find("#sign-in-dialog") && (await signInAgain(await answer.json()))) {
    return askServer(address, options);
  }
  if (answer.status === 403) {
    const { detail } = await answer.clone().json();
    if (detail === "step_up_required" && (await proveDialog())) {
      return askServer(address, options);
    }
  }
  return answer;
};

// A form that needs a fresh proof is sent once there is one.
const proved = async (form) => {
  try {
    return !("prove" in form.dataset) || (await askServer("/admin/account/proof")).ok;
  } catch {
    // The server is away. The browser says so better, when it sends the form.
    return true;
  }
};

const stillSignedIn = async (person) => {
  try {
    const problem = await whatIsMissing(person);
    return problem === null || (await signInAgain(problem));
  } catch {
    // The server is away. The browser says so better, when it sends the form.
    return true;
  }
};

const signedInFirst = () => {
  const template = find("#sign-in-dialog");
  const asking = new WeakSet();
  const passed = new WeakSet();
  if (!template) {
    return;
  }
  const { person } = template.content.firstElementChild.dataset;
  const sendLater = async (form, submitter) => {
    asking.add(form);
    if ((await stillSignedIn(person)) && (await proved(form))) {
      passed.add(form);
      form.requestSubmit(submitter);
      passed.delete(form);
    } else {
      agreed.delete(form);
    }
    asking.delete(form);
  };
  // Before everything else that listens: for them the form is submitted once it really is.
  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      const own = form.method === "post" && !("anytime" in form.dataset) && !form.closest(".sign-in");
      const toConfirm = "confirm" in form.dataset && !agreed.has(form);
      if (!own || toConfirm || passed.delete(form)) {
        return;
      }
      event.preventDefault();
      event.stopImmediatePropagation();
      if (!asking.has(form)) {
        sendLater(form, event.submitter);
      }
    },
    { capture: true },
  );
};

// Reachability: at most 50 at a time, asked once the page stands.

const reachWords = { online: "answers", offline: "not reached", unknown: "reachability not known" };

const showReach = (mark, state) => {
  const word = reachWords[state] ?? reachWords.unknown;
  mark.classList.add(`reach-${state in reachWords ? state : "unknown"}`);
  if ("words" in mark.dataset) {
    mark.parentElement.append(make("span", { className: "reach-words" }, word));
  } else {
    mark.setAttribute("aria-label", word);
  }
  mark.title = word;
};

const askReach = async (marks) => {
  const ids = marks.map((mark) => mark.dataset.reach).join(",");
  let states = {};
  try {
    const answer = await askServer(`/admin/vm/reachability?ids=${ids}`);
    states = answer.ok ? await answer.json() : {};
  } catch {
    // The server is away; nothing is known then.
  }
  marks.forEach((mark) => showReach(mark, states[mark.dataset.reach] ?? "unknown"));
};

const reachability = async () => {
  const marks = all("[data-reach]");
  for (let start = 0; start < marks.length; start += 50) {
    await askReach(marks.slice(start, start + 50));
  }
};

// Combobox with suggestions (ARIA 1.2 pattern, list autocomplete); free text stays allowed.

let comboCount = 0;

const combobox = (holder) => {
  const input = find("input", holder);
  const list = make("ul", { id: `combo-${(comboCount += 1)}`, className: "combo-list", hidden: true });
  let timer = 0;
  let request = null;
  let active = -1;

  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-expanded", "false");
  input.setAttribute("aria-controls", list.id);
  input.autocomplete = "off";
  holder.append(list);

  const close = () => {
    clearTimeout(timer);
    request?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };

  const point = (index) => {
    const options = [...list.children];
    active = (index + options.length) % options.length;
    options.forEach((option, n) => option.setAttribute("aria-selected", String(n === active)));
    options[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[active].id);
  };

  const choose = (text) => {
    close();
    if (input.value !== text) {
      input.value = text;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
  };

  const show = (results) => {
    list.replaceChildren(
      ...results.map((text, n) => {
        const option = make("li", { id: `${list.id}-${n}` }, text);
        option.setAttribute("role", "option");
        option.setAttribute("aria-selected", "false");
        // Before the field loses the focus, which would close the list.
        option.addEventListener("pointerdown", (event) => event.preventDefault());
        option.addEventListener("click", () => choose(text));
        return option;
      }),
    );
    active = -1;
    list.hidden = results.length === 0;
    input.setAttribute("aria-expanded", String(results.length > 0));
    input.removeAttribute("aria-activedescendant");
  };

  const ask = async () => {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const address = new URL(holder.dataset.suggest, location.href);
    address.searchParams.set("term", input.value);
    try {
      const answer = await askServer(address, { signal });
      const { results = [] } = answer.ok ? await answer.json() : {};
      if (!signal.aborted && document.activeElement === input) {
        show(results.filter((text) => text !== input.value));
      }
    } catch {
      // Overtaken by the next letter, or the server is away: the field is plain text then.
    }
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 120);
  });
  input.addEventListener("blur", () => {
    // A dialog to sign in borrows the focus and gives it back.
    if (!find(".sign-in[open]")) {
      close();
    }
  });
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (open) {
        point(active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1));
      } else {
        ask();
      }
    } else if (event.key === "Enter" && open && active >= 0) {
      event.preventDefault();
      choose(list.children[active].textContent);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      close();
    }
  });
};

// A form with data-confirm asks before it is sent.

const confirmations = () => {
  const dialog = find("#confirm");
  let waiting = null;
  if (!dialog) {
    return;
  }
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!("confirm" in form.dataset) || agreed.delete(form)) {
      return;
    }
    event.preventDefault();
    waiting = { form, submitter: event.submitter };
    find("#confirm-title").textContent = form.dataset.confirmTitle;
    find("#confirm-text").textContent = form.dataset.confirm;
    find("[data-answer=yes]", dialog).textContent = form.dataset.confirmButton;
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    const answer = event.target.closest("[data-answer]")?.dataset.answer;
    if (answer) {
      dialog.close();
    }
    if (answer === "yes") {
      agreed.add(waiting.form);
      waiting.form.requestSubmit(waiting.submitter);
    }
  });
  all("[data-after-script]").forEach((button) => {
    button.disabled = false;
  });
};

// Copy. Over plain HTTP the clipboard interface is missing and a chosen text field must do.

const copyText = async (text) => {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = make("textarea", { className: "unseen" }, text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
};

const setIcon = (button, name) => find("use", button).setAttribute("href", `#i-${name}`);

const copying = () => {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) {
      return;
    }
    try {
      await copyText(button.dataset.copy);
    } catch {
      announce("Copying is not allowed in this browser");
      return;
    }
    button.classList.add("copied");
    setIcon(button, "check");
    announce("Copied");
    setTimeout(() => {
      button.classList.remove("copied");
      setIcon(button, "copy");
    }, 1500);
  });
};

// Editor: warn before unsaved work is left; send a form once.

const contents = (form) => JSON.stringify([...new FormData(form)].map(([name, value]) => [name, String(value)]));

const guard = (form) => {
  const before = "unsaved" in form.dataset ? "" : contents(form);
  let sent = false;
  form.addEventListener("submit", () => {
    sent = true;
  });
  window.addEventListener("beforeunload", (event) => {
    if (!sent && contents(form) !== before) {
      event.preventDefault();
    }
  });
  window.addEventListener("pageshow", () => {
    sent = false;
  });
};

const sendOnce = () => {
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") {
      return;
    }
    if (sent.has(event.target)) {
      event.preventDefault();
    }
    sent.add(event.target);
    // A form that led nowhere (the network was away) may be sent again.
    setTimeout(() => sent.delete(event.target), 3000);
  });
};

// A page that shows a secret once is not shown again out of the browser's memory.

const once = () => {
  if (find("[data-once]")) {
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) {
        location.reload();
      }
    });
  }
};

const unmasking = (within = document) => {
  for (const button of all("[data-unmask]", within)) {
    button.addEventListener("click", () => {
      const input = document.getElementById(button.dataset.unmask);
      const shown = input.type === "password";
      input.type = shown ? "text" : "password";
      button.textContent = shown ? "Hide" : "Show";
      button.setAttribute("aria-pressed", String(shown));
    });
  }
};

// One-time links carry their token behind the "#", which no server and no log sees. It moves into
// the form and out of the address bar; a pasted link is cut down to its token.

const tokenIn = (text) => {
  const fragment = text.includes("#") ? text.slice(text.indexOf("#") + 1) : text;
  return decodeURIComponent(fragment.replace(/^token=/, "")).trim();
};

const token = () => {
  const holder = find("[data-token]");
  if (!holder) {
    return;
  }
  const input = find("input", holder);
  const form = input.form;
  if (location.hash.length > 1) {
    input.value = tokenIn(location.hash);
    history.replaceState(null, "", location.pathname + location.search);
  }
  holder.hidden = input.value !== "";
  form.addEventListener("submit", () => {
    input.value = tokenIn(input.value);
  });
  if (input.value && "sendToken" in form.dataset) {
    form.requestSubmit();
  }
};

showTimes();
themeSwitch();
foldables();
hotkey();
finder();
bulk();
all("[data-suggest]").forEach(combobox);
signedInFirst();
confirmations();
copying();
all("[data-guard]").forEach(guard);
sendOnce();
once();
unmasking();
token();
find("[data-focus]")?.focus();
reachability();

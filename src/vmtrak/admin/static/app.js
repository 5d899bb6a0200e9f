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

const rememberFocus = (element, path = location.pathname) => {
  if (element?.id) {
    sessionStorage.setItem("vmtrak.focus", `${path}#${element.id}`);
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

// Rows chosen for one action, whose question says what becomes of the chosen VMs' credentials.

const accountsOf = (boxes) => {
  const count = boxes.reduce((sum, box) => sum + Number(box.dataset.accounts ?? 0), 0);
  if (count === 1) {
    return " Their one credential stays sealed with its VM and comes back with it.";
  }
  return count ? ` Their ${count} credentials stay sealed with them and come back with them.` : "";
};

const bulk = () => {
  const form = find("[data-bulk]");
  if (!form) {
    return;
  }
  const boxes = all("input[name=pk]").filter((box) => box.form === form);
  const head = find("[data-pick-all]");
  const question = form.dataset.confirm;
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    form.dataset.confirm = question + accountsOf(boxes.filter((box) => box.checked));
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
  forgetClipboard();
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
    // The page stays where the answer is a file (data-download), of which one may want another.
    const stays = "download" in event.target.dataset;
    if (event.defaultPrevented || event.target.method !== "post" || stays) {
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

// Browsers keep what stands in text fields, to bring it back with the page, but for those that say
// autocomplete="off": so a password says that for as long as it is text.

const unmasking = (within = document) => {
  for (const button of all("[data-unmask]", within)) {
    const input = find(`#${button.dataset.unmask}`, within);
    const usual = input.autocomplete;
    const turn = (shown) => {
      input.autocomplete = shown ? "off" : usual;
      input.type = shown ? "text" : "password";
      button.textContent = shown ? "Hide" : "Show";
      button.setAttribute("aria-pressed", String(shown));
    };
    button.addEventListener("click", () => turn(input.type === "password"));
    window.addEventListener("pagehide", () => turn(false));
  }
};

// Making up a password: 20 of these 65 characters are 120 bits. Without l, I, 1, O and 0, which are
// mistaken for each other, and without what shells and quotes take for their own.

const CHARACTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.+:=@,";
const KINDS = [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/];

// A byte above the last whole multiple would favour the first characters: it is thrown away.
const oneOf = (characters) => {
  const bound = 256 - (256 % characters.length);
  let byte = bound;
  while (byte >= bound) {
    [byte] = crypto.getRandomValues(new Uint8Array(1));
  }
  return characters[byte % characters.length];
};

const newPassword = () => {
  let password = "";
  while (!KINDS.every((kind) => kind.test(password))) {
    password = Array.from({ length: 20 }, () => oneOf(CHARACTERS)).join("");
  }
  return password;
};

const generating = () => {
  for (const button of all("[data-generate]")) {
    const input = document.getElementById(button.dataset.generate);
    button.addEventListener("click", () => {
      input.value = newPassword();
      input.dispatchEvent(new Event("input", { bubbles: true }));
      if (input.type === "password") {
        find(`[data-unmask=${input.id}]`).click();
      }
      announce("A password of 20 characters stands in the field");
    });
    window.addEventListener("pagehide", () => {
      input.value = "";
    });
  }
};

// Passwords of accounts on VMs. They are in no page: each is asked for, shown or copied, and gone
// after a while, or as soon as nobody looks at the page any more. One is shown at a time.

const SHOWN_SECONDS = 30;
const away = "VMTrak does not answer. Try again in a moment.";

let hideShown = null;
let forgetClipboard = () => {};

const countDown = (seconds, tell, done) => {
  const end = Date.now() + seconds * 1000;
  const timer = setInterval(() => {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left > 0) {
      tell(left);
    } else {
      clearInterval(timer);
      done();
    }
  }, 250);
  tell(seconds);
  return () => clearInterval(timer);
};

const timeBar = (words) => {
  const bar = make("progress", { max: SHOWN_SECONDS });
  const text = make("span");
  bar.setAttribute("aria-hidden", "true");
  const tell = (left) => {
    bar.value = left;
    text.textContent = words(left);
  };
  return { parts: [bar, text], tell };
};

// Letters, digits and signs in colours of their own, blanks visible.
const inKinds = (password) =>
  (password.match(/\p{L}+|\p{N}+|\s+|[^\p{L}\p{N}\s]+/gu) ?? []).map((run) => {
    const kind = [[/\p{L}/u, "letters"], [/\p{N}/u, "digits"], [/\s/, "blanks"]].find(([one]) => one.test(run));
    return make("span", { className: kind ? kind[1] : "signs" }, run);
  });

const whyNot = ({ status, headers }, { detail = "" }) => {
  const again = new Date(Date.now() + 1000 * Number(headers.get("Retry-After")));
  const words = {
    401: "Nothing was revealed: you are not signed in any more.",
    404: "It is no longer there: the account, this password or its VM is gone. Load the page again.",
    429: `${detail} The next is possible at ${clock(again)}.`,
    503: detail || away,
  };
  const steps = { ...unfinished, step_up_required: "Nothing was revealed: that needs a fresh proof that it is you." };
  return words[status] ?? steps[detail] ?? (detail || away);
};

// Safari lets a page copy only in the very moment of the click: it gets a promise of the text.
const toClipboard = (text) => {
  if (!window.ClipboardItem) {
    return text.then((known) => navigator.clipboard.writeText(known));
  }
  const plain = text.then((known) => new Blob([known], { type: "text/plain" }));
  plain.catch(() => {});
  return navigator.clipboard.write([new ClipboardItem({ "text/plain": plain })]);
};

class ReasonWanted extends Error {}

const reveals = (holder) => {
  const reason = find("[data-reason]", holder);

  const wantReason = (words) => {
    find("#reveal-reason-why").textContent = words;
    reason.setAttribute("aria-invalid", "true");
    reason.focus();
  };

  const askPassword = async (address) => {
    if (reason.required && !reason.value.trim()) {
      throw new ReasonWanted("Say why first");
    }
    const body = new URLSearchParams({ reason: reason.value });
    const answer = await askServer(address, { method: "POST", body }).catch(() => null);
    const told = await answer?.json().catch(() => null);
    if (!told) {
      throw new Error(away);
    }
    if (told.details?.reason) {
      throw new ReasonWanted(`The reason ${told.details.reason.join(", ")}`);
    }
    if (!answer.ok) {
      throw new Error(whyNot(answer, told));
    }
    return told.password;
  };

  reason?.addEventListener("input", () => {
    find("#reveal-reason-why").textContent = "";
    reason.removeAttribute("aria-invalid");
  });
  if (reason) {
    all("[data-reveal]", holder).forEach((line) => revealing(line, askPassword, wantReason));
  }
};

const revealing = (line, askPassword, wantReason) => {
  const { name, reveal } = line.dataset;
  const mask = find("[data-mask]", line);
  const button = find("[data-show]", line);
  const said = find("[data-said]", line);
  const copied = find("[data-copied]", line);
  const problem = find("[data-problem]", line);
  let busy = false;

  const say = (place, ...parts) => {
    place.replaceChildren(...parts);
    place.hidden = parts.length === 0;
  };

  const complain = (error) => {
    if (error instanceof ReasonWanted) {
      wantReason(error.message);
      return;
    }
    find("p", problem).textContent = error.message;
    problem.hidden = false;
  };

  const show = (password) => {
    if (document.hidden) {
      throw new Error("It was revealed, but not shown: nobody was looking at this page.");
    }
    hideShown?.();
    const shown = make("code", { className: "password", tabIndex: 0 });
    const bar = timeBar((left) => `Hides in ${left} s`);
    shown.append(...inKinds(password));
    shown.setAttribute("role", "group");
    shown.setAttribute("aria-label", name);
    mask.replaceWith(shown);
    find("[data-word]", button).textContent = "Hide";
    say(said, ...bar.parts);
    hideShown = () => {
      const focused = shown.contains(document.activeElement);
      stop();
      hideShown = null;
      shown.replaceWith(mask);
      shown.replaceChildren();
      find("[data-word]", button).textContent = "Reveal";
      say(said);
      announce(`Hidden again: ${name}`);
      if (focused) {
        button.focus();
      }
    };
    const stop = countDown(SHOWN_SECONDS, bar.tell, () => hideShown());
    announce(`Shown for ${SHOWN_SECONDS} seconds: ${name}`);
    return shown;
  };

  // In place of the clipboard: whoever wants to copy does so with the keyboard.
  const showChosen = (password, why) => {
    const shown = show(password);
    shown.focus();
    getSelection().selectAllChildren(shown);
    said.append(make("span", {}, why));
    announce(why);
  };

  const emptyClipboard = async () => {
    await navigator.clipboard.writeText("");
    say(copied, "The clipboard is cleared.");
    announce("The clipboard is cleared");
  };

  const offerToClear = () => {
    const clear = make("button", { type: "button", className: "button small" }, "Clear it");
    const why = "The clipboard may still hold the password: a page can clear it only while it is in front.";
    clear.addEventListener("click", () => {
      button.focus();
      emptyClipboard().catch(() => say(copied, "This browser does not let VMTrak clear the clipboard. Copy something else."));
    });
    say(copied, make("span", {}, why), clear);
    announce(why);
  };

  const clearLater = () => {
    const bar = timeBar((left) => `Copied, not shown. The clipboard is cleared in ${left} s if this page stays open and in front.`);
    const stop = countDown(SHOWN_SECONDS, bar.tell, async () => {
      forgetClipboard = () => {};
      if (document.hasFocus()) {
        await emptyClipboard().catch(offerToClear);
      } else {
        offerToClear();
      }
    });
    forgetClipboard = () => {
      forgetClipboard = () => {};
      stop();
      say(copied);
    };
    say(copied, ...bar.parts);
    announce(`Copied, not shown: ${name}`);
  };

  const take = async () => {
    const asked = askPassword(reveal);
    if (!navigator.clipboard) {
      showChosen(await asked, "Over plain HTTP a page may not copy. It is selected: press Ctrl+C or ⌘C.");
      return;
    }
    try {
      await toClipboard(asked);
    } catch {
      showChosen(await asked, "The browser did not let VMTrak copy. It is selected: press Ctrl+C or ⌘C.");
      return;
    }
    forgetClipboard();
    clearLater();
  };

  const look = async () => {
    show(await askPassword(reveal));
  };

  const alone = async (step) => {
    if (busy) {
      return;
    }
    busy = true;
    hideShown?.();
    problem.hidden = true;
    line.setAttribute("aria-busy", "true");
    try {
      await step();
    } catch (error) {
      complain(error);
    }
    line.removeAttribute("aria-busy");
    busy = false;
  };

  button.addEventListener("click", () => {
    if (line.contains(find(".password"))) {
      hideShown();
    } else {
      alone(look);
    }
  });
  find("[data-take]", line).addEventListener("click", () => alone(take));
};

const revealed = () => {
  all("[data-reveals]").forEach(reveals);
  const hide = () => hideShown?.();
  window.addEventListener("pagehide", hide);
  document.addEventListener("visibilitychange", () => document.hidden && hide());
  document.addEventListener("copy", () => forgetClipboard());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !find("dialog[open]")) {
      hide();
    }
  });
};

// The box with which a VM is extended: its address (#extend) opens it, as the browser does by
// itself where it knows how; Escape and a click beside it close it.

const extending = () => {
  const box = find("#extend");
  if (!box) {
    return;
  }
  const details = box.closest("details");
  const button = find("summary", details);
  const close = () => {
    details.open = false;
  };
  const openByAddress = () => {
    if (location.hash === "#extend") {
      details.open = true;
      (find("[name=days]", box) ?? find("[name=until]", box)).focus();
      history.replaceState(null, "", location.pathname + location.search);
    }
  };
  document.addEventListener("click", (event) => {
    if (!details.contains(event.target)) {
      close();
    }
  });
  details.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && details.open) {
      close();
      button.focus();
    }
  });
  // On the page that follows, the focus is where it was before.
  find("form", box).addEventListener("submit", ({ target }) => {
    rememberFocus(button, new URL(target.action).pathname.replace("/extend/", "/details/"));
  });
  window.addEventListener("hashchange", openByAddress);
  restoreFocus();
  openByAddress();
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
generating();
revealed();
extending();
token();
find("[data-focus]")?.focus();
reachability();

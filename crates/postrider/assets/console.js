// What a page can do without: copying, times in the reader's zone, questions before what cannot be undone.
(() => {
  "use strict";

  const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]:not([data-zoned])")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) {
        time.textContent = zoned.format(at);
        time.dataset.zoned = "";
      }
    }
    if (navigator.clipboard && window.isSecureContext) {
      for (const button of root.querySelectorAll("button.copy[hidden]")) button.hidden = false;
    }
  };

  const copied = async (button) => {
    const before = button.textContent;
    try {
      const shown = button.closest("figure, .copyable").querySelector("code");
      await navigator.clipboard.writeText(shown.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copied(button);
    for (const open of document.querySelectorAll("details.person[open], details.actions[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.person[open], details.actions[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });

  // A list of choices that is searched by typing.
  document.addEventListener("input", (event) => {
    const search = event.target.closest("input[data-filters]");
    if (!search) return;
    const wanted = search.value.trim().toLowerCase();
    for (const choice of document.querySelectorAll(`#${search.dataset.filters} label`)) {
      choice.hidden = wanted !== "" && !choice.textContent.toLowerCase().includes(wanted);
    }
  });

  // A form is sent once.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    if (!form.hasAttribute("hx-post") && !form.hasAttribute("hx-get") && form.method === "post") {
      form.dataset.sent = "yes";
    }
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // Rows that follow what happens. The stream only says that something has changed; the page asks for its rows itself,
  // and does not move them under a reader: then it says how many are new.
  const follow = (notice) => {
    const rows = () => document.getElementById("live-rows");
    let isDue = false;
    const refresh = () => {
      isDue = document.hidden;
      if (!isDue && rows()) htmx.trigger(rows(), "changed");
    };
    const isRead = () => {
      const list = rows();
      const isAway = list.getBoundingClientRect().top < 0;
      return isAway || list.matches(":hover") || list.contains(document.activeElement) || !getSelection().isCollapsed;
    };
    const ids = (list) => [...list.querySelectorAll("[data-id]")].map((row) => Number(row.dataset.id));
    const tell = (count, isMore, address) => {
      notice.replaceChildren();
      if (count === 0) return;
      const link = document.createElement("a");
      link.className = "button small";
      link.href = address;
      link.textContent = `${count}${isMore ? " or more" : ""} new`;
      notice.append(link);
    };
    document.addEventListener("htmx:beforeSwap", (event) => {
      const shown = rows();
      if (event.detail.target !== shown || event.detail.xhr.status !== 200) return;
      const fetched = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
      const list = fetched.getElementById("live-rows");
      if (!list) {
        event.detail.shouldSwap = false;
        return;
      }
      const all = ids(list);
      const fresh = all.filter((id) => id > Number(shown.dataset.newest));
      const isSame = String(all) === String(ids(shown));
      const isKept = "later" in shown.dataset || (isRead() && !(isSame && !shown.contains(document.activeElement)));
      event.detail.shouldSwap = !isKept;
      tell(isKept ? fresh.length : 0, fresh.length > 0 && fresh.length === all.length, shown.dataset.first);
    });
    const source = new EventSource(notice.dataset.live);
    source.addEventListener("changed", refresh);
    source.addEventListener("end", () => source.close());
    document.addEventListener("visibilitychange", () => { if (isDue) refresh(); });
    window.addEventListener("pagehide", () => source.close());
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  };
  const notice = document.querySelector("[data-live]");
  if (notice && window.EventSource && window.htmx) follow(notice);

  document.addEventListener("htmx:load", (event) => localise(event.detail.elt));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => localise(document));
  else localise(document);
  for (const search of document.querySelectorAll("input[data-filters][hidden]")) search.hidden = false;
})();

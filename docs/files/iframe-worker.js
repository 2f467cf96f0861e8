// Search in pages that were opened from a folder: browsers start no Worker there, so its script runs in a hidden frame.
// The theme's script looks for the name `IFrameWorker` and waits for `importScripts`.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(address) {
      super();
      const base = new URL(address, location).href;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      frame.srcdoc = "<!doctype html><title>search</title>";
      this.started = new Promise((done) => frame.addEventListener("load", done, { once: true })).then(() => {
        const inside = frame.contentWindow;
        const load = (source) =>
          new Promise((done, failed) => {
            const script = inside.document.createElement("script");
            Object.assign(script, { src: new URL(source, base).href, onload: done, onerror: failed });
            inside.document.head.append(script);
          });
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        inside.importScripts = async (...sources) => {
          for (const source of sources) await load(source);
        };
        return load(base).then(() => inside);
      });
      document.documentElement.append(frame);
    }

    postMessage(data) {
      this.started.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }

    terminate() {}
  }
  window.IFrameWorker = window.Worker = IFrameWorker;
}

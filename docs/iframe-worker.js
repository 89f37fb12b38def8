/* Browsers start no worker from a file. A page that was opened as one searches in a hidden frame in a worker's place. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.worker = this
      this.inside = inside
      this.waiting = []
      inside.document.open()
      inside.document.write(
        `<script>
          postMessage = data => worker.tell(data)
          importScripts = (...files) => Promise.all(files.map(file => new Promise((done, failed) => {
            const script = document.createElement("script")
            Object.assign(script, { src: new URL(file, "${new URL(address, location)}"), onload: done, onerror: failed })
            document.head.appendChild(script)
          })))
        <\/script>
        <script src="${new URL(address, location)}" onload="worker.begin()"><\/script>`
      )
      inside.document.close()
    }

    /** The script is there: hand over what was posted before. */
    begin() {
      const { waiting } = this
      this.waiting = null
      waiting.forEach(data => this.postMessage(data))
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
    }

    /** What the script inside posts. */
    tell(data) {
      const event = new MessageEvent("message", { data })
      this.dispatchEvent(event)
      this.onmessage?.(event)
    }

    terminate() {
      this.inside.frameElement?.remove()
    }
  }
}

// Folders and files that are dropped go the way of chosen ones: into the input of the upload button. Its input is not
// part of the document, so it is caught as the button opens it.
(() => {
  const open = HTMLInputElement.prototype.click
  let caught = null, catching = false
  HTMLInputElement.prototype.click = function () {
    if (this.type !== 'file') return open.call(this)
    if (!this.studioGuard) {
      this.studioGuard = true
      this.addEventListener('change', guard, true)
    }
    if (catching) caught = this
    else open.call(this)
  }

  const say = (text, wrong) => {
    const line = document.createElement('p')
    line.setAttribute('role', wrong ? 'alert' : 'status')
    line.textContent = text
    document.querySelector('.studio-told .widget-html-content')?.replaceChildren(line)
  }
  const megabytes = bytes => `${Math.max(1, Math.round(bytes / 2 ** 20)).toLocaleString('en')} MB`
  const limit = name => Number(document.querySelector('[data-studio-once]').dataset[name])

  // What is too large is refused before it is sent: a message of that size would end the connection.
  function guard(event) {
    const files = [...event.target.files], size = files.reduce((sum, file) => sum + file.size, 0)
    const instead = 'drop it in parts, or name a folder on this machine instead'
    let why = ''
    if (size > limit('studioOnce')) why = `${megabytes(size)} are more than the ${megabytes(limit('studioOnce'))} that come at once: ${instead}`
    if (files.length > limit('studioFiles')) why = `${files.length} files are more than the ${limit('studioFiles')} that a page takes: ${instead}`
    if (why) event.stopImmediatePropagation()
    if (files.length) say(why || `Sending ${files.length} file${files.length > 1 ? 's' : ''}, ${megabytes(size)} …`, Boolean(why))
  }

  // Files of a dropped folder, named with the folders that they lie in.
  async function walk(entry, above) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed))
      return [new File([file], above + file.name, {type: file.type, lastModified: file.lastModified})]
    }
    const reader = entry.createReader(), found = []
    for (let some; (some = await new Promise((done, failed) => reader.readEntries(done, failed))).length;)
      for (const inner of some) found.push(...await walk(inner, `${above}${entry.name}/`))
    return found
  }

  async function dropped(data) {
    const entries = [...data.items].map(item => item.webkitGetAsEntry?.()), plain = [...data.files]
    if (!entries.some(entry => entry?.isDirectory)) return plain
    return (await Promise.all(entries.filter(Boolean).map(entry => walk(entry, '')))).flat()
  }

  const zone = event => event.target.closest?.('.studio-drop')
  for (const kind of ['dragover', 'dragleave', 'drop'])
    document.addEventListener(kind, async event => {
      event.preventDefault()
      document.querySelector('.studio-drop')?.classList.toggle('over', kind === 'dragover' && Boolean(zone(event)))
      const button = document.querySelector('.studio-upload')
      if (kind !== 'drop' || !zone(event) || !button) return
      say('Reading …')
      try {
        const held = new DataTransfer()
        for (const file of await dropped(event.dataTransfer)) held.items.add(file)
        catching = true
        button.click()
        catching = false
        caught.files = held.files
        caught.dispatchEvent(new Event('change'))
      } catch (error) {
        catching = false
        say(`This could not be read (${error.message}): choose the photographs with the button instead`, true)
      }
    })
})()

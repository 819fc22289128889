import { type Dirent, lstatSync, opendirSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { segmentName, walFileKind } from '../domain/wal.ts'
import { mostListed, type PlaceRuns, placesPerLog, type WalListing, type WalScanTask } from './wal-scan.ts'

// Read in pieces: all names at once would be a hundred megabytes, and the C library sorts them.
const piece = 1024

/** The places of one timeline, in the order in which the directory has them. */
class Places {
  #places = new Float64Array(16)
  #length = 0

  add(place: number): void {
    if (this.#length === this.#places.length) {
      const longer = new Float64Array(this.#length * 2)
      longer.set(this.#places)
      this.#places = longer
    }
    this.#places[this.#length++] = place
  }

  runs(): PlaceRuns {
    const sorted = this.#places.subarray(0, this.#length).sort()
    const runs: number[] = []
    let last = Number.NaN
    for (const place of sorted) {
      if (place === last) continue // a directory that changes may tell a name twice
      if (place !== last + 1 || place % placesPerLog === 0) runs.push(place, place)
      else runs[runs.length - 1] = place
      last = place
    }
    return Float64Array.from(runs)
  }
}

function list(directory: string): WalListing {
  const segments = new Map<number, Places>()
  const [named, others]: [string[], string[]] = [[], []]
  let [unlisted, hasIncoming] = [0, false]

  function add(entry: Dirent): void {
    const { name } = entry
    const kind = walFileKind(name)
    if (kind === null && entry.isDirectory()) {
      if (name === '.incoming') hasIncoming = true
      return
    }
    const isFile = entry.isFile()
    if (isFile && kind === 'segment' && addSegment(name)) return
    const isNamed = isFile && kind !== null && kind !== 'segment'
    const names = isNamed ? named : others
    if (names.length < (isNamed ? mostListed.named : mostListed.others)) names.push(name)
    else unlisted += 1
  }

  function addSegment(name: string): boolean {
    const [timeline, within] = [hex(name, 0), hex(name, 16)]
    if (within >= placesPerLog) return false
    let places = segments.get(timeline)
    if (places === undefined) {
      if (segments.size >= mostListed.timelines) return false
      places = new Places()
      segments.set(timeline, places)
    }
    places.add(hex(name, 8) * placesPerLog + within)
    return true
  }

  const opened = opendirSync(directory, { bufferSize: piece })
  try {
    for (let entry = opened.readSync(); entry !== null; entry = opened.readSync()) add(entry)
  } finally {
    opened.closeSync()
  }
  const runs = new Map([...segments].map(([timeline, places]) => [timeline, places.runs()]))
  return { segments: runs, named, others, unlisted, hasIncoming }
}

function hex(name: string, at: number): number {
  return Number.parseInt(name.slice(at, at + 8), 16)
}

function misfits({ directory, segmentSize, segments }: WalScanTask & { readonly what: 'lengths' }): Float64Array {
  const found: number[] = []
  for (let at = 0; at < segments.length; at += 3) {
    const [timeline = 0, first = 0, last = -1] = segments.subarray(at, at + 3)
    for (let segment = first; segment <= last; segment += 1) {
      const path = join(directory, segmentName(timeline, segment, segmentSize))
      const stats = lstatSync(path, { throwIfNoEntry: false })
      if (stats?.isFile() !== true || stats.size !== segmentSize) found.push(timeline, segment, segment)
    }
  }
  return Float64Array.from(found)
}

try {
  const task = workerData as WalScanTask
  parentPort?.postMessage({ result: task.what === 'list' ? list(task.directory) : misfits(task) })
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  parentPort?.postMessage({ code: code ?? '', message })
}

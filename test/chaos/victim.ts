import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { workMarker } from '../../src/postgres/orphans.ts'
import { type Served, serve } from '../support/serve.ts'
import type { Random } from './random.ts'

/** A sidecar that is killed again and again, and begun anew. */
export class Victim {
  readonly #directory: string
  readonly #yaml: string
  #current: Promise<Served | null> = Promise.resolve(null)
  #served: Served | null = null
  #doomed = false
  starts = 0
  /** What it said when it ended though nobody had killed it. */
  readonly surprises: string[] = []

  constructor(directory: string, yaml: string) {
    this.#directory = directory
    this.#yaml = yaml
  }

  /** The sidecar, if it is up. */
  get served(): Served | null {
    return this.#served
  }

  /** Begins a new life; resolves when it is up, or has ended before. */
  start(): Promise<Served | null> {
    this.#doomed = false
    this.starts += 1
    this.#current = serve(this.#directory, this.#yaml, {
      onSpawn: (child) => {
        this.#pid = child.pid ?? null
        child.once('exit', (code, signal) => {
          this.#served = null
          this.#pid = null
          if (!this.#doomed) this.surprises.push(`it ended with ${code ?? signal}`)
        })
      },
    }).then(
      (served) => {
        if (served.child.exitCode === null && served.child.signalCode === null) this.#served = served
        return served
      },
      (error: Error) => {
        if (!this.#doomed) this.surprises.push(error.message)
        return null
      },
    )
    return this.#current
  }

  #pid: number | null = null

  /** Kills it, also while it starts, and resolves when it is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#doomed = true
    if (this.#pid !== null) process.kill(this.#pid, signal)
    const served = await this.#current
    await served?.end(signal)
    this.#served = null
  }
}

/** Sends SIGKILL to a process that works for a sidecar with this work folder; false when there is none. */
export async function killChild(workDir: string, random: Random): Promise<boolean> {
  const pids: number[] = []
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const environment = await readFile(`/proc/${name}/environ`, 'utf8').catch(() => '')
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    const isOurs = environment.includes(`${workMarker}=${workDir}`) || command.includes(workDir)
    if (isOurs) pids.push(Number(name))
  }
  if (pids.length === 0) return false
  try {
    process.kill(random.pick(pids), 'SIGKILL')
    return true
  } catch {
    return false // it was faster
  }
}

/** A pause of so many milliseconds. */
export function pause(random: Random, least: number, most: number): Promise<void> {
  return delay(random.between(least, most))
}

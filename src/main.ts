#!/usr/bin/env node
import { userInfo } from 'node:os'
import { quickCommand } from './cli/quick.ts'
import { systemClock } from './clock.ts'
import { LifeboatError } from './domain/errors.ts'
import { readVersion } from './version.ts'

/** npm passes a Ctrl-C on to a process that the terminal has signalled already: that is one wish, not two. */
const repeatMs = 1000
const stop = new AbortController()
let stoppedAt = 0
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, function onSignal() {
    if (!stop.signal.aborted) {
      stoppedAt = systemClock.monotonic()
      stop.abort(new LifeboatError('interrupted', `received ${signal}`))
    } else if (systemClock.monotonic() - stoppedAt > repeatMs) {
      // Somebody insists: end at once. What is under way is cleaned up at the next start.
      process.off(signal, onSignal)
      process.kill(process.pid, signal)
    }
  })
}

// Whoever read what we print has had enough (`lifeboat list | head`): nothing is wrong, and nobody is left to be told.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

const argv = process.argv.slice(2)
const context = {
  // Opened by whoever asks, not by every command.
  get input() {
    return process.stdin
  },
  out: process.stdout,
  err: process.stderr,
  env: process.env,
  user: userInfo().username,
  signal: stop.signal,
  clock: systemClock,
  version: readVersion(),
}
process.exitCode = await (quickCommand(argv)?.(argv, context) ?? run())

async function run(): Promise<number> {
  const [{ runCli }, { makeLog }] = await Promise.all([import('./cli/commands.ts'), import('./cli/log.ts')])
  return runCli(argv, Object.assign(context, { makeLog }))
}

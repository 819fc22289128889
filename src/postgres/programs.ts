import { type ChildProcess, type ChildProcessByStdio, type StdioOptions, spawn } from 'node:child_process'
import { access } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { LifeboatError } from '../domain/errors.ts'
import { cleanEnvironment, fixedEnvironment } from './clean-environment.ts'
import { lastWords } from './last-words.ts'
import { LineReader, Tail } from './lines.ts'
import { closeQuietPipes, feed } from './pipes.ts'

export { cleanEnvironment } from './clean-environment.ts'

/** An OS user to run as. Only root can; everyone else runs programs as itself. */
export interface OsUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

export interface ProgramOptions {
  /** Absolute path, or a name to look up on PATH. */
  readonly program: string
  /** Passed as they are: there is no shell. Never secrets (they show in the process list). */
  readonly args: readonly string[]
  /** Added to a clean environment. Nothing of PG* is inherited: a stray PGOPTIONS or PGSERVICE would divert the work. */
  readonly env?: Readonly<Record<string, string>>
  /** Pass `env` alone, with a fixed PATH: nothing of our own environment is inherited. */
  readonly bare?: boolean
  /** A command line to start it through (`unshare …`), which sees to the OS user too; `program` must be a path then. */
  readonly through?: readonly string[] | null
  /** Must be a directory that the user may enter, or PostgreSQL's programs complain on stderr. Default `/`. */
  readonly cwd?: string
  readonly user?: OsUser | null
  /** On abort the whole process group gets SIGTERM, and SIGKILL after the grace. */
  readonly signal?: AbortSignal
  readonly graceMs?: number
  /**
   * For standard input; closed at once when left out. A stream that fails ends the program, and its error is thrown. A number is
   * a file's descriptor, which the program reads from where it stands; it stays the caller's to close.
   */
  readonly stdin?: string | Uint8Array | Readable | number
  /** Called with each line of stderr, without its newline. */
  readonly onStderrLine?: (line: string) => void
  /** Called with each line of stdout; it is then not collected. */
  readonly onStdoutLine?: (line: string) => void
}

/** How a program ended. `stderr` holds the last lines, at most 64 KiB. */
export interface ProgramExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
  /** What the stream on its standard input failed with. */
  readonly inputError?: Error
}

export interface RunningProgram {
  readonly pid: number
  /** Standard output, unread. Whoever starts a program reads it to the end or destroys it. */
  readonly stdout: Readable
  /** Resolves when the program is gone and its pipes are closed; never rejects. After an abort nothing of its group is left. */
  readonly exited: Promise<ProgramExit>
  kill(signal: NodeJS.Signals): void
}

const defaultGraceMs = 5_000
const maxCollected = 32 * 1024 * 1024

/**
 * Starts a program in a process group of its own and hands back its standard output as a stream.
 *
 * @throws LifeboatError `program-missing` when there is nothing to run; `program-failed` when it cannot be started.
 */
export async function startProgram(options: ProgramOptions): Promise<RunningProgram> {
  const [child] = await spawned([options])
  return follow(options, child as Child)
}

/**
 * Starts programs each of which reads what the one before prints: the bytes go from one to the other in the kernel. Only
 * the last one's standard output is there to be read; the end of each must be looked at.
 *
 * @throws LifeboatError as `startProgram`; nothing is left running then
 */
export async function startChain(stages: readonly ProgramOptions[]): Promise<readonly RunningProgram[]> {
  const children = await spawned(stages)
  return children.map((child, index) => follow(stages[index] as ProgramOptions, child))
}

/** What a program is that goes on when we end. */
export interface DetachedProgram {
  readonly pid: number
  /** Resolves when it is gone; never rejects. Does not keep us alive. */
  readonly exited: Promise<Pick<ProgramExit, 'code' | 'signal'>>
  kill(signal: NodeJS.Signals): void
}

/**
 * Starts a program that outlives us, in a process group of its own: what it prints goes to an open file.
 *
 * @throws LifeboatError as `startProgram`
 */
export async function startDetached(
  options: Omit<ProgramOptions, 'signal' | 'stdin' | 'onStderrLine' | 'onStdoutLine'>,
  output: number,
): Promise<DetachedProgram> {
  await reachable(options)
  const child = launch(options, ['ignore', output, output])
  const exited = new Promise<Pick<ProgramExit, 'code' | 'signal'>>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  await started(child).catch(async (cause: unknown) => Promise.reject(await explained(options, cause)))
  const pid = child.pid as number
  child.unref()
  return { pid, exited, kill: (signal) => killGroup(pid, signal) }
}

function follow(options: ProgramOptions, child: Child): RunningProgram {
  const pid = child.pid as number
  const tail = new Tail(64 * 1024)
  const lines = new LineReader((line) => {
    tail.push(line)
    options.onStderrLine?.(line)
  })
  child.stderr.on('data', (chunk: Buffer) => lines.push(chunk))
  const kill = (signal: NodeJS.Signals) => killGroup(pid, signal)
  const failing = new AbortController()
  const { stdin } = options
  const feeding =
    child.stdin === null || typeof stdin === 'number'
      ? Promise.resolve(null)
      : feed(child.stdin, stdin, () => failing.abort())
  const exited = ended(child, options.signal, () => lines.end()).then(async ({ code, signal }) => {
    const inputError = await feeding
    return { code, signal, stderr: tail.text(), ...(inputError === null ? {} : { inputError }) }
  })
  for (const signal of [options.signal, failing.signal])
    endOnAbort(signal, options.graceMs ?? defaultGraceMs, kill, exited)
  return { pid, stdout: child.stdout, exited, kill }
}

/**
 * Runs a program to its end and gives its standard output.
 *
 * @throws LifeboatError `program-missing`; `program-failed` with exit status and what it said last on stderr; the
 * signal's reason when aborted.
 */
export async function runProgram(options: ProgramOptions): Promise<{ stdout: string; stderr: string }> {
  const { stdout, stderr } = await collectOutput(options)
  return { stdout: stdout.toString('utf8'), stderr }
}

/** Like `runProgram`, for output that is not UTF-8. */
export async function collectOutput(options: ProgramOptions): Promise<{ stdout: Buffer; stderr: string }> {
  const running = await startProgram(options)
  const chunks: Buffer[] = []
  let size = 0
  const lines = options.onStdoutLine ? new LineReader(options.onStdoutLine) : null
  running.stdout.on('data', (chunk: Buffer) => {
    if (lines !== null) return lines.push(chunk)
    size += chunk.length
    if (size <= maxCollected) chunks.push(chunk)
  })
  const exit = await running.exited
  lines?.end()
  options.signal?.throwIfAborted()
  if (exit.inputError !== undefined) throw exit.inputError
  assertSucceeded(options.program, exit)
  if (size > maxCollected)
    throw new LifeboatError('program-failed', `${baseName(options.program)} printed more than ${maxCollected} bytes`)
  return { stdout: Buffer.concat(chunks), stderr: exit.stderr }
}

/** Throws `program-failed` unless the exit status is 0. */
export function assertSucceeded(program: string, exit: ProgramExit): void {
  if (exit.code === 0) return
  const how = exit.signal === null ? `exited with status ${exit.code}` : `was ended by ${exit.signal}`
  const said = lastWords(baseName(program), exit.stderr)
  throw new LifeboatError('program-failed', `${baseName(program)} ${how}${said ? `: ${said}` : ''}`, {
    details: { exitCode: exit.code, signal: exit.signal, stderr: exit.stderr.slice(-4096) },
  })
}

/** Standard input is missing where another program, or a file, is read. */
type Child = ChildProcessByStdio<Writable | null, Readable, Readable>

async function spawned(stages: readonly ProgramOptions[]): Promise<readonly Child[]> {
  for (const { signal } of stages) signal?.throwIfAborted()
  for (const stage of stages) await reachable(stage)
  const children: Child[] = []
  const failures: Promise<LifeboatError>[] = []
  // All in one turn of the event loop: Node begins to read from a pipe at once, and what it has read the next one misses.
  for (const stage of stages) {
    const before = children.at(-1)?.stdout
    try {
      children.push(launch(stage, [before ?? inputOf(stage), 'pipe', 'pipe']) as Child)
    } catch (cause) {
      failures.push(explained(stage, cause)) // arguments that are too long, or no text
      break
    }
    before?.destroy()
  }
  for (const [index, outcome] of (await Promise.allSettled(children.map(started))).entries()) {
    if (outcome.status === 'rejected') failures.push(explained(stages[index] as ProgramOptions, outcome.reason))
  }
  if (failures[0] === undefined) return children
  for (const { pid } of children) if (pid !== undefined) killGroup(pid, 'SIGKILL')
  throw await failures[0]
}

/** An open file, or a pipe that is fed. */
function inputOf({ stdin }: ProgramOptions): number | 'pipe' {
  return typeof stdin === 'number' ? stdin : 'pipe'
}

/** What is started through another program would have that one complain. */
async function reachable(options: ProgramOptions): Promise<void> {
  if (options.through)
    await access(options.program).catch(async (cause: unknown) => Promise.reject(await explained(options, cause)))
}

function launch(
  { through, program, args: own, cwd = '/', bare, env, user }: ProgramOptions,
  stdio: StdioOptions,
): ChildProcess {
  const [command = '', ...args] = [...(through ?? []), program, ...own]
  return spawn(command, args, {
    cwd,
    env: bare ? { ...fixedEnvironment, ...env } : cleanEnvironment(env),
    stdio,
    detached: true,
    ...(user && !through ? { uid: user.uid, gid: user.gid } : {}),
  })
}

async function explained(
  { cwd = '/', program: wanted, through }: ProgramOptions,
  cause: unknown,
): Promise<LifeboatError> {
  // A directory that is not there gives ENOENT too.
  const entered = await exists(cwd)
  const missing = entered && (cause as NodeJS.ErrnoException).code === 'ENOENT'
  const program = through && (await exists(wanted)) ? (through[0] as string) : wanted
  return new LifeboatError(
    missing ? 'program-missing' : 'program-failed',
    missing
      ? `program not found: ${program}`
      : `cannot start ${program}${entered ? '' : ` in ${cwd}`}: ${(cause as Error).message}`,
    { cause, ...(missing ? { hint: `install the package that carries ${baseName(program)}` } : {}) },
  )
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

function started(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
}

/** Resolves when the program has exited and its pipes are closed: by themselves, or by us once they have gone quiet. */
function ended(
  child: Child,
  signal: AbortSignal | undefined,
  flush: () => void,
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => {
    const gone = new AbortController()
    child.once('exit', () => void closeQuietPipes([child.stdout, child.stderr] as Socket[], signal, gone.signal))
    child.once('close', (code, signal) => {
      gone.abort()
      flush()
      resolve({ code, signal })
    })
  })
}

/** SIGTERM to the group, SIGKILL after the grace; and SIGKILL to what is left of it when the program itself is gone. */
function endOnAbort(
  signal: AbortSignal | undefined,
  graceMs: number,
  kill: (signal: NodeJS.Signals) => void,
  exited: Promise<unknown>,
): void {
  if (signal === undefined) return
  const gone = new AbortController()
  const onAbort = () => {
    kill('SIGTERM')
    delay(graceMs, undefined, { signal: gone.signal }).then(
      () => kill('SIGKILL'),
      () => {},
    )
  }
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  void exited.then(() => {
    signal.removeEventListener('abort', onAbort)
    gone.abort()
    if (signal.aborted) kill('SIGKILL')
  })
}

/** Signals a whole process group; a group that is gone is no error. */
function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function baseName(program: string): string {
  return program.slice(program.lastIndexOf('/') + 1)
}

import { access } from 'node:fs/promises'
import type { HookConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import { assertSucceeded, startProgram } from '../postgres/programs.ts'

/**
 * Runs the command of a hook in a process group of its own, which ends with it: what is to live longer has to begin a
 * session of its own, as daemons do. What it prints is thrown away, but for the last words on stderr.
 *
 * @throws LifeboatError `program-missing`; `program-failed` with its last words; the signal's reason
 */
export async function runHook(
  { program, args }: Pick<HookConfig, 'program' | 'args'>,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const running = await startProgram({ program, args, env, signal }).catch(async (error: unknown) => {
    throw (await lacksInterpreter(program, error)) ? withoutInterpreter(program, error) : error
  })
  running.stdout.resume()
  const exit = await running.exited
  running.kill('SIGKILL')
  signal.throwIfAborted()
  assertSucceeded(program, exit)
}

/** The kernel says "no such file" of a script whose interpreter is not there, as if it spoke of the script. */
async function lacksInterpreter(program: string, error: unknown): Promise<boolean> {
  if (!(error instanceof LifeboatError) || error.code !== 'program-missing') return false
  return access(program).then(
    () => true,
    () => false,
  )
}

function withoutInterpreter(program: string, cause: unknown): LifeboatError {
  return new LifeboatError('program-missing', `${program} is there, but what should run it is not`, {
    cause,
    hint: 'look at its first line (#!): the program that it names is not installed',
  })
}

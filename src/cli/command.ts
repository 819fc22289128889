import { type ParseArgsConfig, parseArgs } from 'node:util'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { loadConfig } from '../config/load.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Version } from '../version.ts'

/** What a command that a recovery waits for may touch of the outside world (see `quickCommand`); main.ts fills it in. */
export interface QuickContext {
  /** Where answers to questions come from; without it none is asked. */
  readonly input?: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly out: NodeJS.WritableStream
  readonly err: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
  readonly env: Readonly<Record<string, string | undefined>>
  /** The OS user, for the history. */
  readonly user: string
  /** Aborts at SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly version: Version
}

/** Everything a command may touch of the outside world. */
export interface CliContext extends QuickContext {
  /** Logs to the stream; the level is the config's for `serve`, else warnings only. */
  readonly makeLog: (level: string, stream: 'out' | 'err') => Logger
}

export interface Command {
  readonly name: string
  /** One line for the list of commands. */
  readonly summary: string
  /** How it is called, after `lifeboat`, e.g. `backup [--database NAME] [--json]`. */
  readonly usage: string
  /** One line for each option; without a meaning it is a heading. */
  readonly options: readonly (readonly [flag: string, meaning: string])[]
  /** Gives the exit code. Throws LifeboatError for everything that main should print. */
  run(argv: readonly string[], context: CliContext): Promise<number>
}

/** The heading of the options that all words after a command share. */
export const forEach = 'Each of them:'

/** Options that every command which reads the configuration has. */
export const configOption = { config: { type: 'string', short: 'c' } } as const
export const configHelp = ['-c, --config FILE', 'configuration file (default: $LIFEBOAT_CONFIG)'] as const
export const jsonOption = { json: { type: 'boolean' } } as const
export const jsonHelp = ['--json', 'print JSON for programs'] as const

/**
 * Parses arguments strictly.
 *
 * @throws LifeboatError `usage-invalid` that names the argument
 */
export function parse<T extends NonNullable<ParseArgsConfig['options']>>(
  command: string,
  argv: readonly string[],
  options: T,
  positionals = 0,
) {
  try {
    const parsed = parseArgs({ args: [...argv], options, strict: true, allowPositionals: positionals > 0 })
    if (parsed.positionals.length > positionals)
      throw new Error(`unexpected argument ${JSON.stringify(parsed.positionals[positionals])}`)
    return parsed
  } catch (cause) {
    const { message } = cause as Error
    // Node's own advice follows the first sentence, in lines of its own or not.
    const [first = message] = message.split(/\. |\.?\n/)
    const dashes = message.includes('starting with a dash')
    throw new LifeboatError('usage-invalid', `${first.charAt(0).toLowerCase()}${first.slice(1)}`, {
      hint: dashes
        ? 'a value that begins with a dash is given with an equals sign: --database=-name'
        : `see: lifeboat help ${command}`,
      cause,
    })
  }
}

/** Loads the configuration that `--config`, `LIFEBOAT_CONFIG` or the environment alone give. */
export function configOf(
  values: { readonly config?: string | undefined },
  { env }: Pick<CliContext, 'env'>,
): Promise<ValidatedConfig> {
  return loadConfig({ ...(values.config === undefined ? {} : { path: values.config }), env })
}

/** One of a list of words. */
export function oneOf<T extends string>(flag: string, value: string | undefined, allowed: readonly T[]): T | undefined {
  if (value === undefined) return undefined
  const found = allowed.find((word) => word === value)
  if (found === undefined)
    throw new LifeboatError('usage-invalid', `${flag} cannot be ${JSON.stringify(value)}`, {
      hint: `one of ${allowed.join(', ')}`,
    })
  return found
}

export const verboseOption = { verbose: { type: 'boolean', short: 'v' } } as const
export const verboseHelp = ['-v, --verbose', 'log every step to stderr'] as const

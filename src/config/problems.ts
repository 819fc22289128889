import { LifeboatError } from '../domain/errors.ts'

/** Where a key stands: names of keys and indexes of list elements, from the top. */
export type KeyPath = readonly (string | number)[]

/** One thing that is wrong with the configuration. Never holds a password, a token or a token's hash. */
export interface Problem {
  /** The key as a reader would write it, e.g. `repositories[0].url`; empty for the file as a whole. */
  readonly key: string
  readonly message: string
  readonly hint?: string
  /** Where it was set: `<file>:<line>` or the environment variable; left out when it was not set at all. */
  readonly where?: string
}

/** A key path as text: `repositories[0].url`. A name that is not plain is quoted, so that no name can forge another. */
export function formatKey(path: KeyPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else if (!/^[A-Za-z_][\w-]{0,63}$/.test(part)) text += `[${JSON.stringify(part.slice(0, 64))}]`
    else text += text === '' ? part : `.${part}`
  }
  return text
}

/** Collects problems, at most one for a key: the first one found is the one to mend, what follows from it is noise. */
export class Problems {
  readonly #found: Problem[] = []
  readonly #keys = new Set<string>()
  readonly #where: (path: KeyPath) => string | undefined

  constructor(where: (path: KeyPath) => string | undefined) {
    this.#where = where
  }

  add(path: KeyPath, message: string, hint?: string): void {
    const key = formatKey(path)
    if (key !== '' && this.#keys.has(key)) return
    this.#keys.add(key)
    const where = this.#where(path)
    this.#found.push({ key, message, ...(hint ? { hint } : {}), ...(where ? { where } : {}) })
  }

  /** Throws `config-invalid` when anything was found: `details.problems` holds them, and the message lists them. */
  throwIfAny(): void {
    if (this.#found.length > 0) throw configError(this.#found)
  }
}

/** The error of a configuration that cannot be used. */
export function configError(problems: readonly Problem[]): LifeboatError {
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`
  const lines = problems.map(({ key, message, hint, where }) => {
    const place = [key, where && (key === '' ? where : `(${where})`)].filter(Boolean).join(' ')
    return `  ${place === '' ? '' : `${place}: `}${message}${hint ? `\n    hint: ${hint}` : ''}`
  })
  return new LifeboatError('config-invalid', `${count} in the configuration\n${lines.join('\n')}`, {
    hint: 'Mend every key listed and start again; docs/configuration.md describes each key.',
    details: { problems },
  })
}

import { loadConfig } from '../../src/config/load.ts'
import type { Problem } from '../../src/config/problems.ts'
import type { ValidatedConfig } from '../../src/config/validated.ts'
import { LifeboatError } from '../../src/domain/errors.ts'

/** The least that a configuration needs. */
export const minimal = 'cluster: main\nrepositories: [{ name: local, url: file:///var/backups/lifeboat }]\n'

export interface Refusal {
  readonly error: LifeboatError
  readonly problems: readonly Problem[]
}

type Options = Parameters<typeof loadConfig>[0]

/** The problems of a configuration that must be refused; anything but a `config-invalid` error is passed on. */
export async function refusal(options: Options): Promise<Refusal> {
  const result = await loadOrRefuse(options)
  if ('problems' in result) return result
  throw new Error('the configuration was accepted')
}

/** Either the config or its problems; any other error is a fault of the loader and passed on. */
export async function loadOrRefuse(options: Options): Promise<Refusal | { readonly config: ValidatedConfig }> {
  try {
    return { config: await loadConfig(options) }
  } catch (error) {
    if (!(error instanceof LifeboatError) || error.code !== 'config-invalid') throw error
    return { error, problems: error.details?.problems as readonly Problem[] }
  }
}

/** The keys of the problems of a YAML text. */
export async function badKeys(text: string, env: Options['env'] = {}): Promise<string[]> {
  return (await refusal({ text, env })).problems.map(({ key }) => key)
}

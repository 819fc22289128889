import { jobNames } from '../runner/job.ts'
import type { Problems } from './problems.ts'
import type { RawConfig } from './schema.ts'
import { readSecretFile } from './secrets.ts'
import { isRecord } from './shape.ts'
import { parseDuration } from './units.ts'
import { type HookConfig, type NotifyConfig, runEvents } from './validated.ts'

/** What the environment of a hook tells of the run; docs/hooks.md has the meanings. */
export const hookVariables = [
  'LIFEBOAT_WHEN',
  'LIFEBOAT_CLUSTER',
  'LIFEBOAT_JOB',
  'LIFEBOAT_RUN_ID',
  'LIFEBOAT_TRIGGER',
  'LIFEBOAT_STATE',
  'LIFEBOAT_FAILURE_CODE',
  'LIFEBOAT_FAILURE_MESSAGE',
  'LIFEBOAT_BACKUP_IDS',
  'LIFEBOAT_FAILED_ITEMS',
] as const
export type HookVariable = (typeof hookVariables)[number]

export function hookOf({ name, when, jobs, on, command, timeout, onFailure }: RawConfig['hooks'][number]): HookConfig {
  const [program = '', ...args] = command
  return {
    name,
    when,
    jobs: jobNames.filter((job) => jobs.length === 0 || jobs.includes(job)),
    on,
    program,
    args,
    timeoutMs: parseDuration(timeout),
    onFailure,
  }
}

/** What is secret is hidden from whoever prints the configuration: functions are not printed. */
export function notifyOf(raw: RawConfig['notify'][number]): NotifyConfig {
  const { name, kind, url, urlFile, events, jobs, secretFile, timeout, retries } = raw
  return {
    name,
    kind,
    url: async () => (urlFile === undefined ? (url ?? '') : readSecretFile(urlFile)),
    secret: secretFile === undefined ? null : () => readSecretFile(secretFile),
    events: runEvents.filter((event) => events.length === 0 || events.includes(event)),
    jobs: jobNames.filter((job) => jobs.length === 0 || jobs.includes(job)),
    timeoutMs: parseDuration(timeout),
    retries,
  }
}

/** What no key of `hooks` and `notify` shows alone. */
export function checkHooks(tree: unknown, problems: Problems): void {
  if (!isRecord(tree)) return
  const lists = { hooks: tree.hooks, notify: tree.notify }
  for (const [key, list] of Object.entries(lists)) {
    const names = new Set<unknown>()
    for (const [index, one] of (Array.isArray(list) ? list : []).entries()) {
      if (!isRecord(one)) continue
      if (typeof one.name === 'string' && names.has(one.name))
        problems.add([key, index, 'name'], 'is the name of another one too')
      names.add(one.name)
      if (key === 'hooks') {
        const [program] = Array.isArray(one.command) ? (one.command as unknown[]) : []
        if (typeof program === 'string' && !program.startsWith('/')) {
          problems.add(
            [key, index, 'command'],
            'must begin with the absolute path of a program',
            'There is no shell: a script is a program too, if it is executable.',
          )
        }
        if (one.when === 'before' && typeof one.on === 'string' && one.on !== 'always') {
          problems.add([key, index, 'on'], 'has no effect before a job', 'Remove it, or set when: after.')
        }
        continue
      }
      if ((one.url === undefined) === (one.urlFile === undefined)) {
        problems.add(
          [key, index, 'url'],
          one.url === undefined ? 'is missing' : 'is set, and urlFile too',
          'Set url or urlFile.',
        )
      }
      if (one.kind === 'healthchecks' && one.secretFile !== undefined) {
        problems.add([key, index, 'secretFile'], 'has no effect on pings', 'Remove it, or set kind: webhook.')
      }
    }
  }
}

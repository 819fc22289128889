import { readFile } from 'node:fs/promises'
import { LifeboatError } from '../domain/errors.ts'
import type { AlertDrillConfig, AlertServer } from './alert-servers.ts'
import type { Problems } from './problems.ts'
import { whyUnreadable } from './read.ts'
import type { RawConfig } from './schema.ts'
import { readSecretFile } from './secrets.ts'
import { isRecord } from './shape.ts'
import { parseDuration } from './units.ts'

type RawServer = RawConfig['alertDrill']['alertmanagers'][number]

export function alertDrillOf({ alertDrill }: Pick<RawConfig, 'alertDrill'>): AlertDrillConfig {
  const { alertmanagers, prometheus, from, receiver, timeouts } = alertDrill
  return {
    alertmanagers: alertmanagers.map(serverOf),
    prometheus: prometheus === undefined ? null : serverOf(prometheus),
    from,
    receiver: receiver ?? null,
    prometheusMs: parseDuration(timeouts.prometheus),
    alertmanagerMs: parseDuration(timeouts.alertmanager),
    receiverMs: parseDuration(timeouts.receiver),
    resolvedMs: parseDuration(timeouts.resolved),
    requestMs: parseDuration(timeouts.request),
  }
}

function serverOf({ url, headersFile, caFile }: RawServer): AlertServer {
  return {
    url: url.replace(/\/+$/, ''),
    headers: async () => (headersFile === undefined ? {} : headersOf(headersFile)),
    authorities: async () => (caFile === undefined ? null : readAuthorities(caFile)),
  }
}

/** @throws LifeboatError `config-invalid`; the message names the file and the line, never what stands there */
async function headersOf(file: string): Promise<Readonly<Record<string, string>>> {
  const text = await readSecretFile(file, { lines: true })
  const lines = text.split(/\r?\n/).entries()
  return Object.fromEntries(
    [...lines].flatMap(([index, line]) => {
      if (line.trim() === '') return []
      const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*$/.exec(line) ?? []
      if (name === undefined || value === undefined)
        throw new LifeboatError('config-invalid', `line ${index + 1} of ${file} is no header`, {
          hint: 'Write a name, a colon and the value, e.g. Authorization: Bearer and the token.',
        })
      return [[name.toLowerCase(), value]]
    }),
  )
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new LifeboatError('config-invalid', `${file} cannot be read: ${whyUnreadable(error)}`)
  }
}

/** What no key of `alertDrill` shows alone. */
export function checkAlertDrill(tree: unknown, problems: Problems): void {
  if (!isRecord(tree) || !isRecord(tree.schedule)) return
  const { alertDrill: cron } = tree.schedule
  const drill = isRecord(tree.alertDrill) ? tree.alertDrill : {}
  const urls = Array.isArray(drill.alertmanagers) ? drill.alertmanagers.filter(isRecord).map(({ url }) => url) : []
  for (const [index, url] of urls.entries()) {
    if (urls.indexOf(url) < index) problems.add(['alertDrill', 'alertmanagers', index, 'url'], 'is listed twice')
  }
  if (typeof cron === 'string' && cron !== 'off' && urls.length === 0) {
    problems.add(
      ['schedule', 'alertDrill'],
      'is set, and no Alertmanager is known',
      'Set alertDrill.alertmanagers, or switch the schedule off.',
    )
  }
}

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Estimate } from '../../src/domain/cost.ts'
import { cli } from '../support/cli.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { storedCluster, storeManifest } from '../support/stored.ts'

interface Report {
  readonly repositories: readonly {
    readonly repository: string
    readonly today: Estimate | null
    readonly whenFull: Estimate | null
    readonly whatIf: {
      readonly whenFull: Estimate
      readonly once: { readonly removal: { readonly backups: number } }
    } | null
  }[]
}

const gibibyte = 2 ** 30
const prices = {
  ...{ name: 'disk', asOf: '2026-02-01', source: 'made up', transferOut: 0.09 },
  classes: [{ class: 'STANDARD', storage: 0.05, minimumDuration: '60d' }],
}

t.test('what repositories cost', async (t) => {
  const directory = await scratchDirectory(t)
  const clock = new FakeClock()
  const days = (count: number) => new Date(clock.now().getTime() - count * 86_400_000)
  const root = join(directory, 'local')
  for (let age = 1; age <= 20; age += 1) await storeManifest(root, { startedAt: days(age), bytes: gibibyte / 4 })
  const file = join(directory, 'lifeboat.yaml')
  const write = (repositories: readonly object[], more: object = {}) =>
    writeFile(
      file,
      JSON.stringify({
        ...{ cluster: storedCluster, stateDir: join(directory, 'state'), costs: { prices: [prices] }, repositories },
        ...more,
      }),
    )
  const local = { name: 'local', url: `file://${root}`, prices: 'disk', monthlyBudget: 7 }
  const empty = { name: 'empty', url: `file://${join(directory, 'empty')}`, prices: 'disk' }
  const report = (...argv: readonly string[]) => cli(['report', '-c', file, '--cost', ...argv], { clock })
  const ask = async (...argv: readonly string[]) => {
    const { code, out, err } = await report(...argv, '--json')
    t.equal(code, 0, err)
    return (JSON.parse(out) as Report).repositories
  }
  await write([local, empty, { name: 'other', url: `file://${join(directory, 'other')}` }])

  const [found, cold, other] = await ask()
  t.match(found, { repository: 'local', whatIf: null, budget: 7, prices: { asOf: '2026-02-01', source: 'made up' } })
  const lines = (estimate: Estimate | null | undefined) =>
    (estimate?.items ?? []).map(({ kind, quantity, dollars }) => [
      kind,
      Number((quantity / gibibyte).toFixed(1)),
      Number(dollars?.toFixed(2)),
    ])
  t.same(lines(found?.today), [
    ['storage', 20, 1],
    // Within the next month those go that come to be thirty days old.
    ['early-deletion', 20.6, 1.03],
  ])
  const full = found?.whenFull
  t.equal(full?.isWhole, true)
  t.same(lines(full), [
    ['storage', 30, 1.5],
    ['early-deletion', 30, 1.5],
  ])
  t.match(cold, { today: { dollars: null, isWhole: false }, whenFull: { dollars: null } }, 'unknown, not free')
  t.match(other, { repository: 'other', prices: null, today: null })

  const [shorter] = await ask('--keep-for', '10d', '-r', 'local')
  t.match(shorter?.whatIf, {
    ...{ retention: { keepFor: '10d', walKeepFor: '10d' }, whenFull: { isWhole: true } },
    once: { move: null },
  })
  t.ok((shorter?.whatIf?.once.removal.backups ?? 0) >= 9, 'those go at once')
  const [longer] = await ask('--keep-for=90d', '--repository=local', '--keep-at-least', '3')
  t.same(lines(longer?.whatIf?.whenFull), [['storage', 90, 4.5]], 'nothing goes early')

  const text = await report('--keep-for', '60d')
  t.equal(text.code, 0, text.err)
  t.match(
    text.out,
    /^local: by the prices disk \(made up, 2026-02-01\); a gigabyte is 2\^30 bytes, a month 730 hours$/m,
  )
  t.match(text.out, / storage +STANDARD +\$1\.00 \(20\.0 GiB\) +\$1\.50 \(30\.0 GiB\) +\$3\.00 \(60\.0 GiB\)$/m)
  t.match(text.out, / total +\$2\.03 +\$3\.00 +\$3\.00$/m)
  t.match(text.out, /budget: \$7\.00 a month\n/)
  await write([{ ...local, monthlyBudget: 2.1 }])
  t.match((await report()).out, /budget: \$2\.10 a month, which is exceeded when full\n/)
  t.match(text.out, / total +not known/)
  t.match(text.out, /not known: nothing is stored yet/)
  t.match(text.out, /^other: no prices are configured/m)

  for (const [argv, message] of [
    [['--keep-for', '3'], /no unit/],
    [['--keep-for', '5m'], /at least 1h/],
    [['--keep-at-least', '0'], /whole number/],
    [['--storage-class', 'GLACIER'], /--storage-class must be a class whose objects can be read at once/],
    [['--storage-class', 'STANDARD_IA', '-r', 'local'], /local is a directory/],
    [['-r', 'none'], /there is no repository "none"/],
  ] as const) {
    const refused = await report(...argv)
    t.equal(refused.code, 2, argv.join(' '))
    t.match(refused.err, message)
  }
  t.match(await cli(['report', '-c', file]), { code: 2, err: /HINT: lifeboat report --cost/ })
  await write([{ name: 'local', url: `file://${root}` }])
  t.match(await report(), { code: 2, err: /lifeboat knows none by itself\nHINT: .*docs\/cost\.md/ })
})

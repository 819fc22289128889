import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'

const load = (more: object) =>
  loadConfig({ text: JSON.stringify({ cluster: 'spavix', watch: [{ directory: '/srv/dumps' }], ...more }), env: {} })
const with1 = (server: object) =>
  load({ alertDrill: { alertmanagers: [{ url: 'http://am:9093/prefix/', ...server }] } })

t.test('what is right', async (t) => {
  t.match((await load({})).alertDrill, { alertmanagers: [], prometheus: null, from: 'rule', receiverMs: 360_000 })
  t.equal((await load({})).policy.alertPathMaxAgeSeconds, null)
  const { alertDrill } = await with1({})
  t.equal(alertDrill.alertmanagers[0]?.url, 'http://am:9093/prefix')
  t.same(await alertDrill.alertmanagers[0]?.headers(), {})
  const set = await load({ policy: { alertPathMaxAge: '40d' } })
  t.equal(set.policy.alertPathMaxAgeSeconds, 40 * 86_400, 'also where something else starts the drills')
})

t.test('what is wrong', async (t) => {
  const both = [{ url: 'http://am:9093' }, { url: 'http://am:9093' }]
  await t.rejects(load({ alertDrill: { alertmanagers: both } }), /alertmanagers\[1\]\.url .*: is listed twice/)
  await t.rejects(
    load({ schedule: { alertDrill: '0 9 * * 1' } }),
    /schedule\.alertDrill .*: is set, and no Alertmanager/,
  )
  for (const url of ['ftp://am', 'http://user:secret@am:9093', 'http://am:9093/?x=1'])
    await t.rejects(with1({ url }), { message: /^(?!.*secret).*without a user/s }, url)
  await t.rejects(
    load({
      alertDrill: { alertmanagers: [{ url: 'http://am:9093' }] },
      schedule: { alertDrill: '0 9 * * 1' },
      policy: { alertPathMaxAge: '7d' },
    }),
    /policy\.alertPathMaxAge .*: is not longer than the longest gap of schedule\.alertDrill/,
  )
})

t.test('headers come from a file that nobody else can read', async (t) => {
  const file = join(t.testdir(), 'headers')
  const read = async (text: string, mode = 0o600) => {
    await writeFile(file, text, { mode })
    const config = await with1({ headersFile: file })
    return config.alertDrill.alertmanagers[0]?.headers()
  }
  t.same(await read('Authorization: Bearer abc:def \r\n\nX-Scope-OrgID:1\n'), {
    authorization: 'Bearer abc:def',
    'x-scope-orgid': '1',
  })
  await t.rejects(read('Authorization: ok\nhunter2\n'), { message: `line 2 of ${file} is no header` })
  await t.rejects(read('a b: c\n'), /line 1/)
  await t.rejects(
    with1({ headersFile: `${file}.gone` }).then((it) => it.alertDrill.alertmanagers[0]?.headers()),
    {
      code: 'config-invalid',
    },
  )
  await t.rejects(
    with1({ caFile: `${file}.gone` }).then((it) => it.alertDrill.alertmanagers[0]?.authorities()),
    {
      code: 'config-invalid',
    },
  )
})

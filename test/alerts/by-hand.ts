import { expand } from './template.ts'
import type { AlertRule } from './trials.ts'

/** Tests of the alerts that are of no cluster. Each shows: silent, before the end of its `for`, and firing. */
export const byHand: Readonly<Record<string, (rule: AlertRule) => readonly object[]>> = {
  LifeboatAbsent: (rule) => {
    const info = (instance: string, values: string) => ({
      series: `lifeboat_build_info{version="1.0.0",revision="",node_version="v24",job="lifeboat",instance="${instance}"}`,
      values,
    })
    const fires = { '9m': [], '10m': [fired(rule)], '30m': [fired(rule)] }
    return [
      test(rule, 'nothing was ever scraped', [], fires),
      test(rule, 'a sidecar is there, standing still', [info('a', '1x40')], { '30m': [] }),
      test(rule, 'a sidecar whose only sign is 0', [info('a', '0x40')], { '30m': [] }),
      test(rule, 'one of a pair is gone', [info('a', '1x40'), info('b', '1x5 stale')], { '30m': [] }),
      test(rule, 'both of a pair are gone', [info('a', '1x5 stale'), info('b', '1x5 stale')], {
        '15m': [],
        '16m': [fired(rule)],
      }),
    ]
  },
  LifeboatExporterDown: (rule) => {
    const up = (instance: string, values: string, job = 'lifeboat') => ({
      series: `up{job="${job}",instance="${instance}"}`,
      values,
    })
    const labels = { job: 'lifeboat', instance: 'b' }
    return [
      test(rule, 'one of a pair cannot be scraped', [up('a', '1x40'), up('b', '1x4 0x35')], {
        '4m': [],
        '9m': [],
        '10m': [fired(rule, labels)],
      }),
      test(rule, 'not for long', [up('b', '1x4 0x4 1x30')], { '9m': [], '10m': [], '30m': [] }),
      test(rule, 'the target is gone', [up('b', '1x4 stale')], { '30m': [] }),
      test(rule, 'all is well, but for what is not ours', [up('b', '1x40'), up('c', '0x40', 'node')], { '30m': [] }),
      test(rule, 'of any job with that name', [up('b', '0x40', 'prod/lifeboat-main')], {
        '4m': [],
        '5m': [fired(rule, { ...labels, job: 'prod/lifeboat-main' })],
      }),
    ]
  },
  Watchdog: (rule) => [test(rule, 'always', [], { '0m': [fired(rule)], '30m': [fired(rule)] })],
}

function fired(rule: AlertRule, labels: Readonly<Record<string, string>> = {}): object {
  const context = { labels, value: 1 }
  return {
    exp_labels: { ...labels, ...rule.labels },
    exp_annotations: Object.fromEntries(
      Object.entries(rule.annotations).map(([name, text]) => [name, expand(text, context)]),
    ),
  }
}

function test(
  rule: AlertRule,
  name: string,
  series: readonly object[],
  expected: Readonly<Record<string, readonly object[]>>,
): object {
  return {
    name,
    interval: '1m',
    input_series: series,
    alert_rule_test: Object.entries(expected).map(([eval_time, exp_alerts]) => ({
      eval_time,
      alertname: rule.alert,
      exp_alerts,
    })),
  }
}

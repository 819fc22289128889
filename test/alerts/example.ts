/** alerts/alertmanager.example.yml, parsed: as much as is needed of it. */
export interface Example {
  readonly global: object
  readonly route: Route
  readonly inhibit_rules: readonly {
    readonly source_matchers: readonly string[]
    readonly target_matchers: readonly string[]
    readonly equal: readonly string[]
  }[]
  readonly receivers: readonly ({ readonly name: string } & Readonly<
    Record<`${'pagerduty' | 'slack' | 'email' | 'webhook'}_configs`, readonly { readonly send_resolved: boolean }[]>
  >)[]
}

interface Route {
  readonly receiver: string
  readonly routes?: readonly Route[]
  readonly [key: string]: unknown
}

export const exampleFile = new URL('../../alerts/alertmanager.example.yml', import.meta.url).pathname

const quick = { group_wait: '100ms', group_interval: '500ms', repeat_interval: '1h' }

function quickened(route: Route): Route {
  const times = Object.fromEntries(Object.entries(quick).filter(([name]) => name in route))
  return { ...route, ...times, ...(route.routes ? { routes: route.routes.map(quickened) } : {}) }
}

/**
 * The example with its routes, groups and inhibitions as they are. It waits for less than a second, and each receiver is a
 * webhook at `url`, whose path is the receiver's name.
 */
export function rewritten({ route, inhibit_rules, receivers }: Example, url: string): object {
  return {
    route: quickened(route),
    inhibit_rules,
    receivers: receivers.map(({ name, ...kinds }) => ({
      name,
      webhook_configs: [
        {
          url: `${url}/${name}`,
          send_resolved: Object.values(kinds).every((configs) => configs.every(({ send_resolved }) => send_resolved)),
        },
      ],
    })),
  }
}

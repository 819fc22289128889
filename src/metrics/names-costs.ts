/** What repositories cost; see `metricDefinitions`. */
export const costDefinitions = {
  lifeboat_repository_monthly_cost_dollars: {
    family: 'repositories',
    type: 'gauge',
    unit: 'dollars',
    labels: ['repository'],
    help: 'What a month costs as things are now, estimated by the table of prices in the configuration. No series where that has no price for something that is billed, nothing is stored yet, or something that it depends on is not known.',
  },
  lifeboat_policy_monthly_cost_dollars: {
    family: 'policy',
    type: 'gauge',
    unit: 'dollars',
    labels: ['repository'],
    help: 'What the repository may cost in a month (monthlyBudget). No series where no limit is set.',
  },
} as const

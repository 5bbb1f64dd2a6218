output "channels" {
  description = "The topics' names, by what they carry."
  value = {
    requests     = local.requests
    accepted     = local.accepted
    orders       = local.orders
    dead_letters = local.dead_letters
  }
}

output "groups" {
  description = "The consumer groups' names, by what they read."
  value = {
    requests = local.requests_group
    accepted = local.accepted_group
  }
}

output "topics" {
  description = "Each topic's configuration, by its name."
  value = {
    (local.requests) = local.shape
    (local.accepted) = local.shape
    (local.orders)   = local.shape
    # A dead letter's copy is larger than its original, by the headers that say why.
    (local.dead_letters) = merge(local.shape, { "max.message.bytes" = "2097152" })
  }
}

output "schemas" {
  description = "Each subject's schema, by its name."
  value = {
    for subject in local.subjects :
    subject => file("${coalesce(var.schemas_folder, "${path.module}/../../../../schemas")}/${subject}.avsc")
  }
}

output "rights" {
  description = "Who may do what, one operation each, in the words of Kafka's own tools."
  value = flatten([for right in local.rights : [for operation in right.operations : {
    who       = right.who
    kind      = right.kind
    name      = right.name
    pattern   = right.pattern
    operation = operation
  }]])
}
